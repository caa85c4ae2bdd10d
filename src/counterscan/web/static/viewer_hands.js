// Mouse, pen and fingers over the panels: zoom, move, window, slices, and the swipe to the next case.
const FAR = 70;  // pixels sideways that change the case

export function handle(stage, look, page) {
  const down = new Map();  // pointer -> where it is
  let from = null, pinch = 0, windowing = false;
  // while a pointer is held all that it does is said to happen to the stage
  const panel = event => page.panelOf(event.target === stage ? document.elementFromPoint(event.clientX, event.clientY) : event.target);

  stage.addEventListener("pointerdown", event => {
    if (!panel(event) || event.target.closest(".handle")) return;
    stage.setPointerCapture(event.pointerId);
    down.set(event.pointerId, event);
    windowing = event.button === 2 || event.shiftKey;
    from = { x: event.clientX, y: event.clientY, panel: panel(event) };
    pinch = down.size === 2 ? apart(down) : 0;
    stage.classList.add("held");
  });
  stage.addEventListener("pointermove", event => {
    const before = down.get(event.pointerId);
    if (!before || !from) return;
    const x = event.clientX - before.clientX, y = event.clientY - before.clientY;
    down.set(event.pointerId, event);
    const { scale } = from.panel.geometry(), { width, height } = from.panel.picture.canvas;
    if (down.size === 2) {
      const now = apart(down), middle = centre(down);
      look.scale(now / (pinch || now), ...from.panel.place(middle));
      look.move(-x / 2 / scale / width, -y / 2 / scale / height);
      pinch = now;
      from.x = Infinity;  // a pinch is no swipe
    } else if (windowing) look.window(look.level + y / 300, look.width + x / 300);
    else if (look.zoom > 1) look.move(-x / scale / width, -y / scale / height);
  });
  const up = event => {
    if (!down.delete(event.pointerId)) return;
    const x = event.clientX - from.x, y = event.clientY - from.y;
    if (!down.size) {
      stage.classList.remove("held");
      if (look.zoom === 1 && !windowing && event.type === "pointerup" && Math.abs(x) > FAR && Math.abs(x) < 1e6 && Math.abs(x) > 2 * Math.abs(y)) page.step(x < 0 ? 1 : -1);
    }
  };
  stage.addEventListener("pointerup", up);
  stage.addEventListener("pointercancel", up);
  stage.addEventListener("contextmenu", event => { if (panel(event)) event.preventDefault(); });
  stage.addEventListener("dblclick", event => { if (panel(event)) look.whole(); });
  stage.addEventListener("wheel", event => {
    const over = panel(event);
    if (!over?.picture) return;
    event.preventDefault();
    if (page.slices > 1 && !event.ctrlKey) page.slide(Math.sign(event.deltaY));
    else look.scale(Math.exp(-event.deltaY / 400), ...over.place(event));
  }, { passive: false });
}

function apart(down) { const [a, b] = [...down.values()]; return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); }
function centre(down) { const [a, b] = [...down.values()]; return { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 }; }
