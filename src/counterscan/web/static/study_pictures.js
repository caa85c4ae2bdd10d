"use strict";
// Pictures side by side with one window, zoom and place for all of them: mouse, touch, pen and keys.

const WIDEST = 510, DEEPEST = 16, BURST = 500;  // grey levels, times the fitted size, ms within which a wheel is one gesture

async function pixelsOf(blob) {
  let bitmap;
  try { bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" }); }
  catch { bitmap = await createImageBitmap(blob); }
  const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const source = context.getImageData(0, 0, bitmap.width, bitmap.height), { data } = source;
  let coloured = false;
  for (let at = 0; at < data.length && !coloured; at += 4) coloured = data[at] !== data[at + 1] || data[at] !== data[at + 2];
  return { canvas, context, source, coloured };
}

export class Stage {
  constructor(root, { onUse = () => {} } = {}) {
    this.root = root; this.onUse = onUse; this.panels = []; this.pointers = new Map(); this.tool = "move"; this.lastWheel = 0;
    this.home();
    new ResizeObserver(() => { this.arrange(); this.draw(); }).observe(root);
    root.addEventListener("contextmenu", event => event.preventDefault());
    root.addEventListener("wheel", event => this.wheel(event), { passive: false });
    root.addEventListener("pointerdown", event => this.down(event));
    root.addEventListener("pointermove", event => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) root.addEventListener(end, event => this.up(event));
    root.addEventListener("dblclick", event => { if (event.target.tagName === "CANVAS") this.reset(); });
  }

  home() {
    Object.assign(this, { zoom: 1, x: .5, y: .5, level: 127.5, width: 255, inverted: false });
    this.stale = true;
  }

  // figures: [{ blob, label, caption (an element), name }]
  async show(figures) {
    const loaded = await Promise.all(figures.map(figure => pixelsOf(figure.blob)));
    this.home();
    this.panels = loaded.map((pixels, at) => {
      const canvas = document.createElement("canvas"), figure = document.createElement("figure");
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", figures[at].label);
      figure.append(canvas);
      if (figures[at].caption) figure.append(figures[at].caption);
      return { ...pixels, view: canvas, figure };
    });
    this.root.replaceChildren(...this.panels.map(panel => panel.figure));
    this.arrange();
    this.paint();
  }

  clear() { this.panels = []; this.root.replaceChildren(); }
  cover(on) { this.root.classList.toggle("covered", on); }

  arrange() {  // as many columns as make the pictures largest, and no room between a picture and its caption
    const { clientWidth: w, clientHeight: h } = this.root, n = this.panels.length, under = 30;
    if (!n) return;
    const { width, height } = this.panels[0].canvas, ratio = width / height;
    const size = columns => Math.min(w / columns, (h / Math.ceil(n / columns) - under) * ratio);
    let best = 1;
    for (let columns = 2; columns <= n; columns++) if (size(columns) > size(best) + 1) best = columns;
    const row = n > 1 ? `${Math.floor(size(best) / ratio + under - 12)}px` : "minmax(0, 1fr)";
    this.root.style.gridTemplateColumns = `repeat(${best}, minmax(0, 1fr))`;
    this.root.style.gridTemplateRows = `repeat(${Math.ceil(n / best)}, ${row})`;
  }

  draw() { this.asked ??= requestAnimationFrame(() => { this.asked = undefined; this.paint(); }); }

  window() {  // the table of the window, applied only when it changed
    if (!this.stale) return;
    this.stale = false;
    const table = new Uint8ClampedArray(256), low = this.level - this.width / 2;
    for (let value = 0; value < 256; value++) {
      const shown = Math.round((value - low) / this.width * 255);
      table[value] = this.inverted ? 255 - Math.max(0, Math.min(255, shown)) : shown;
    }
    for (const { context, source, coloured } of this.panels) {
      if (coloured) continue;  // a map's colours mean something
      const from = source.data, out = new ImageData(source.width, source.height), to = out.data;
      for (let at = 0; at < from.length; at += 4) {
        to[at] = table[from[at]]; to[at + 1] = table[from[at + 1]]; to[at + 2] = table[from[at + 2]]; to[at + 3] = 255;
      }
      context.putImageData(out, 0, 0);
    }
  }

  paint() {
    this.window();
    for (const { canvas, view } of this.panels) {
      const dots = window.devicePixelRatio || 1, w = Math.round(view.clientWidth * dots), h = Math.round(view.clientHeight * dots);
      if (!w || !h) continue;
      if (view.width !== w || view.height !== h) Object.assign(view, { width: w, height: h });
      const context = view.getContext("2d"), scale = this.zoom * Math.min(w / canvas.width, h / canvas.height);
      context.imageSmoothingEnabled = scale < 8 * dots;
      context.imageSmoothingQuality = "high";
      context.fillStyle = "#000";
      context.fillRect(0, 0, w, h);
      context.drawImage(canvas, w / 2 - this.x * canvas.width * scale, h / 2 - this.y * canvas.height * scale, canvas.width * scale, canvas.height * scale);
    }
  }

  scale(view) { const { canvas } = this.panels[0]; return this.zoom * Math.min(view.clientWidth / canvas.width, view.clientHeight / canvas.height); }
  used(what) { this.onUse(what); }

  zoomBy(factor, event = null) {  // about the pointer, or the middle
    if (!this.panels.length) return;
    const before = this.zoom, view = event?.target.tagName === "CANVAS" ? event.target : this.panels[0].view;
    const box = view.getBoundingClientRect(), { canvas } = this.panels[0];
    const right = event ? event.clientX - box.left - box.width / 2 : 0, below = event ? event.clientY - box.top - box.height / 2 : 0;
    const old = this.scale(view);
    this.zoom = Math.max(1, Math.min(DEEPEST, before * factor));
    const fresh = this.scale(view);
    this.x += (right / old - right / fresh) / canvas.width;
    this.y += (below / old - below / fresh) / canvas.height;
    this.keep();
  }

  panBy(right, below) {  // in CSS pixels
    if (!this.panels.length) return;
    const { canvas, view } = this.panels[0], scale = this.scale(view);
    this.x -= right / scale / canvas.width;
    this.y -= below / scale / canvas.height;
    this.keep();
  }

  keep() {  // the picture's middle stays in reach; at the fitted size it stays in place
    const free = Math.max(0, .5 - .5 / this.zoom);
    this.x = Math.max(.5 - free, Math.min(.5 + free, this.x));
    this.y = Math.max(.5 - free, Math.min(.5 + free, this.y));
    this.draw();
  }

  windowBy(wider, brighter) {
    this.width = Math.max(4, Math.min(WIDEST, this.width * Math.exp(wider)));
    this.level = Math.max(0, Math.min(255, this.level - brighter));
    this.stale = true;
    this.draw();
  }

  invert() { this.inverted = !this.inverted; this.stale = true; this.draw(); }
  reset() { this.home(); this.draw(); this.used("reset"); }

  wheel(event) {
    if (event.target.tagName !== "CANVAS") return;
    event.preventDefault();
    if (event.timeStamp - this.lastWheel > BURST) this.used("zoom");
    this.lastWheel = event.timeStamp;
    this.zoomBy(Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) / 400), event);
  }

  down(event) {
    if (event.target.tagName !== "CANVAS") return;
    event.preventDefault();
    event.target.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    this.gesture = this.pointers.size > 1 ? "zoom" : event.button === 2 || event.shiftKey || this.tool === "window" ? "window" : "pan";
    this.told = false;
  }

  move(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    const right = event.clientX - last.clientX, below = event.clientY - last.clientY;
    if (!this.told && Math.hypot(right, below) > 0) { this.told = true; this.used(this.gesture); }
    if (this.pointers.size === 2) this.pinch(event, right, below);
    else if (this.gesture === "window") this.windowBy(right / 200, -below / 2);
    else if (this.gesture === "pan") this.panBy(right, below);
    this.pointers.set(event.pointerId, event);
  }

  pinch(event, right, below) {
    const [other] = [...this.pointers.entries()].filter(([id]) => id !== event.pointerId).map(([, one]) => one);
    const last = this.pointers.get(event.pointerId), apart = one => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const middle = { target: last.target, clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
    this.zoomBy(apart(event) / Math.max(1, apart(last)), middle);
    this.panBy(right / 2, below / 2);
  }

  up(event) { this.pointers.delete(event.pointerId); }
}
