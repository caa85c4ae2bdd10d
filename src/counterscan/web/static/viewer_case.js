// One case: its panels in three layouts, the tools above them, the way there and the slices below.
import { Look, Panel, border, change, grey, heat, parse } from "./viewer_draw.js";
import { handle } from "./viewer_hands.js";
import { ask, askJson, at, badge, make, path, still } from "./viewer_kit.js";
import { side } from "./viewer_side.js";
import { Strip } from "./viewer_strip.js";

const HELD = 24, BLINK = 600;  // blocks kept, milliseconds
const MODES = [["panels", "Panels", "p"], ["swipe", "Swipe", "s"], ["blink", "Blink", "b"]];

export class CasePage {
  constructor(archive, gallery) {
    this.archive = archive; this.gallery = gallery;
    this.blocks = new Map();
    this.mode = "panels"; this.method = 0; this.all = false; this.blinking = null; this.panels = []; this.visit = 0;
    this.look = new Look(() => this.redraw());
    this.root = at("case");
    this.stage = make("div", { class: "stage", role: "group", "aria-label": "pictures" });
    this.tools = make("div", { class: "tools", role: "toolbar", "aria-label": "how the case is shown" });
    this.side = make("aside", { class: "side", "aria-label": "answers and facts" });
    this.strip = new Strip(this);
    this.root.append(this.tools, this.stage, this.side, this.strip.root);
    handle(this.stage, this.look, this);
    this.build();
  }

  build() {
    const chip = (text, act, more = {}) => make("button", { class: "chip", onclick: act, ...more }, text);
    this.modes = Object.fromEntries(MODES.map(([mode, text, key]) => [mode, chip(text, () => this.turn(mode), { title: `key ${key}`, "aria-pressed": "false" })]));
    this.methods = make("div", { class: "chips", role: "group", "aria-label": "method" });
    this.outliner = chip("Outlines", () => this.outline(), { title: "key o", "aria-pressed": "false" });
    this.pixels = chip("Pixels", () => this.smooth(), { title: "key x: pixels as they are", "aria-pressed": "false" });
    const range = (name, act) => make("input", { type: "range", min: 0, max: 1, step: 0.005, "aria-label": name, oninput: act });
    this.level = range("level", () => this.look.window(+this.level.value, this.look.width));
    this.width = range("window width", () => this.look.window(this.look.level, +this.width.value));
    this.levelTold = make("output"); this.widthTold = make("output");
    this.reset = chip("Reset", () => this.look.reset(), { title: "key 0: whole picture, whole window" });
    this.back = chip("←", () => this.step(-1), { "aria-label": "previous case" });
    this.next = chip("→", () => this.step(1), { "aria-label": "next case" });
    this.told = make("span", { class: "note", role: "status" });
    this.tools.append(make("div", { class: "chips", role: "group", "aria-label": "layout" }, ...Object.values(this.modes)), this.methods,
      make("div", { class: "group" }, this.outliner, this.pixels),
      make("div", { class: "group" }, make("label", {}, "window", this.width, this.widthTold), make("label", {}, "level", this.level, this.levelTold), this.reset),
      make("div", { class: "nav" }, this.told, this.back, this.next));
  }

  async show(query, run, name) {
    const visit = ++this.visit;
    this.stage.classList.add("waiting");
    try {
      const facts = await askJson(`/api/case/${path(run, name)}`);
      if (visit !== this.visit) return;
      if (!this.facts || this.facts.key !== facts.key) this.slice = null;
      this.facts = facts;
      const found = facts.methods.findIndex(one => one.run === run);
      this.method = Math.max(0, found);
      if (facts.methods.length < 2) this.all = false;
      await this.load();
      if (visit === this.visit) await this.around(query, run, name);
    } catch (error) { if (visit === this.visit) this.fail(error); }
  }

  async load() {  // the blocks that the layout needs, then the panels
    const visit = this.visit, methods = this.all ? this.facts.methods : [this.facts.methods[this.method]];
    this.stage.classList.add("waiting");
    const loaded = await Promise.all(methods.map(method => this.block(method)));
    if (visit !== this.visit) return;
    this.loaded = loaded.map((block, index) => ({ ...block, method: methods[index] }));
    this.slice = this.loaded[0].head.slice;
    this.slices = this.loaded[0].head.slices;
    this.stage.classList.remove("waiting");
    this.strip.fit(this.loaded[0].head, this.facts);
    this.arrange();
    this.tell();
  }

  block(method, slice = this.slice) {
    const address = `/api/planes/${path(method.run, method.name)}${slice === null || slice === undefined ? "" : `?slice=${slice}`}`;
    if (!this.blocks.has(address)) {
      const promise = ask(address).then(answer => answer.arrayBuffer()).then(parse);
      promise.catch(() => this.blocks.delete(address));
      this.blocks.set(address, promise);
      if (this.blocks.size > HELD) this.blocks.delete(this.blocks.keys().next().value);
    }
    return this.blocks.get(address);
  }

  async around(query, run, name) {  // neighbours in the gallery's order, fetched before they are asked for
    const upload = !this.archive.runs.some(one => one.run === run);
    let index = query.get("i") === null ? -1 : Number(query.get("i"));
    if (!upload && !(index >= 0 && (await this.gallery.row(index))?.key === this.facts.key)) index = await this.gallery.place(run, name);
    this.index = upload ? -1 : index;
    this.told.textContent = this.index >= 0 ? `${this.index + 1} of ${this.gallery.total}` : "";
    this.back.disabled = this.index <= 0;
    this.next.disabled = this.index < 0 || this.index + 1 >= this.gallery.total;
    for (const place of [index + 1, index - 1]) {
      const row = this.index >= 0 ? await this.gallery.row(place).catch(() => null) : null;
      if (row) this.block(row, null).catch(() => {});
    }
  }

  async step(by) {
    const index = this.index + by;
    if (this.index < 0 || index < 0 || index >= this.gallery.total) return;
    this.index = index;  // at once, for keys that come faster than cases
    const row = await this.gallery.row(index);
    if (row && this.index === index) { this.slice = null; location.replace(this.gallery.address(row, index)); }
  }

  slide(by) {
    const slice = Math.max(0, Math.min(this.slices - 1, this.slice + by));
    if (slice === this.slice) return;
    this.slice = slice;
    this.load().catch(error => this.fail(error));
    for (const next of [slice + Math.sign(by), slice + 2 * Math.sign(by)]) if (next >= 0 && next < this.slices) this.block(this.facts.methods[this.method], next).catch(() => {});
  }

  choose(index) {
    this.all = index < 0;
    if (index >= 0) this.method = index;
    if (this.all) this.mode = "panels";
    const method = this.facts.methods[this.method];
    if (index >= 0) return void history.replaceState(null, "", `#/case/${path(method.run, method.name)}${location.hash.includes("?") ? `?${location.hash.split("?")[1]}` : ""}`),
      void this.show(new URLSearchParams(location.hash.split("?")[1] || ""), method.run, method.name);
    this.load().catch(error => this.fail(error));
  }

  turn(mode) {
    if (mode !== "panels" && this.all) { this.mode = mode; this.choose(this.method); return; }
    this.mode = mode;
    this.arrange();
  }
  outline() { this.look.outlines = !this.look.outlines; this.redraw(); }
  smooth() { this.look.smooth = !this.look.smooth; this.redraw(); }

  pictures(block) {  // each painted once, kept with its block
    const { planes, head } = block;
    block.made ||= {};
    const made = block.made, once = (name, paint) => (made[name] ||= paint());
    const second = planes.counterfactual || planes.heat;
    const after = this.strip.frame(block) || planes.counterfactual;
    const key = after === planes.counterfactual ? "" : this.strip.at;
    return {
      image: once("image", () => grey(planes.image)),
      second: planes.counterfactual ? once(`cf${key}`, () => grey(after)) : once("heat", () => heat(second, planes.image, head.heat_limit, this.archive.heat)),
      change: planes.counterfactual && once(`change${key}`, () => change(after, planes.reference || planes.image, head.limit, this.archive.dark)),
      twin: planes.twin && once("twin", () => grey(planes.twin)),
      lines: once("lines", () => ({ mask: border(planes.mask), truth: planes.truth && border(planes.truth) })),
    };
  }

  arrange() {
    clearInterval(this.blinking);
    this.panels.forEach(panel => panel.leave());
    this.panels = [];
    const views = this.mode === "panels" ? this.beside() : [this.over()];
    this.stage.replaceChildren(...views);
    this.fit();
    this.redraw();
  }

  view(name, picture, lines, caption, always = false) {
    const panel = new Panel(this.look, name);
    Object.assign(panel, { picture, lines, always });
    this.panels.push(panel);
    const frame = make("div", { class: "frame" }, panel.canvas);
    frame.panel = panel;
    return make("figure", { class: "view" }, frame, make("figcaption", {}, ...caption));
  }

  beside() {
    const truth = lines => lines.truth && [make("em", { class: "dot truth" }), "truth"];
    return this.loaded.flatMap((block, place) => {
      const { image, second, change: moved, twin, lines } = this.pictures(block), { head } = block, several = this.all;
      const title = several ? [make("b", {}, block.method.label), badge(head.state)] : [];
      const dots = [...(lines.mask ? [make("em", { class: "dot mask" }), "mask"] : ["no mask"]), ...(truth(lines) || [])];
      const share = `${Math.round((head.limit || 0) * 100)}%`;
      const bar = ["−" + share, make("i", { class: "ramp", title: "counterfactual minus image, as a share of the window" }), "+" + share];
      const attributed = !moved;
      const views = [];
      if (!several) views.push(this.view("image", image, lines, ["image"]));
      else views.push(this.view(`image with outlines by ${block.method.label}`, image, lines, [...title.slice(0, 1), ...dots], true));
      views.push(this.view(attributed ? "evidence" : "counterfactual", second, lines, attributed ? ["evidence", make("i", { class: "ramp heat" }), ...title.slice(1)] : [this.strip.name(head) || "counterfactual", ...title.slice(1)]));
      if (moved) views.push(this.view("signed difference", moved, lines, bar));
      if (several && !moved) views.push(make("div"));
      if (!several) views.push(this.view("image with outlines", image, lines, dots, true));
      if (twin && !several) views.push(this.view("true healthy twin", twin, lines, ["true healthy twin"]));
      return views;
    });
  }

  over() {  // swipe or blink: both pictures in one place
    const block = this.loaded[0], { image, second, change: moved, lines } = this.pictures(block), name = moved ? "counterfactual" : "evidence";
    const view = this.view(`image and ${name}`, image, lines, [this.mode === "swipe" ? "drag the line, or use the arrow keys on it" : still.matches ? "Space changes the picture" : "Space changes by hand"]);
    const [panel] = this.panels, frame = view.querySelector(".frame");
    if (this.mode === "swipe") {
      panel.second = second;
      frame.append(make("span", { class: "tag left" }, "image"), make("span", { class: "tag right" }, name), this.divider(panel, frame));
    } else {
      const tag = make("span", { class: "tag left", role: "status" }, "image");
      frame.append(tag);
      this.flip = () => { const back = panel.picture !== image; panel.picture = back ? image : second; tag.textContent = back ? "image" : name; panel.draw(); };
      if (!still.matches) this.blinking = setInterval(this.flip, BLINK);
    }
    return view;
  }

  divider(panel, frame) {
    const knob = make("div", { class: "handle", role: "slider", tabindex: 0, "aria-label": "where the counterfactual begins", "aria-valuemin": 0, "aria-valuemax": 100 });
    const put = share => {
      panel.share = this.share = Math.max(0, Math.min(1, share));
      knob.style.left = `${panel.share * 100}%`;
      knob.setAttribute("aria-valuenow", Math.round(panel.share * 100));
      panel.draw();
    };
    const drag = event => { const box = frame.getBoundingClientRect(); put((event.clientX - box.left) / box.width); };
    knob.addEventListener("pointerdown", event => { event.stopPropagation(); knob.setPointerCapture(event.pointerId); knob.onpointermove = drag; });
    knob.addEventListener("pointerup", () => { knob.onpointermove = null; });
    knob.addEventListener("keydown", event => {
      const by = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
      if (by) { put(panel.share + by); event.preventDefault(); event.stopPropagation(); }
    });
    put(this.share ?? 0.5);
    return knob;
  }

  fit() {  // columns that make the panels largest
    const count = this.stage.children.length, { clientWidth: wide, clientHeight: high } = this.stage, plane = this.loaded[0].planes.image;
    const size = columns => Math.min((wide - 32) / columns / plane.width, ((high - 24) / Math.ceil(count / columns) - 36) / plane.height);
    let best = this.all ? 3 : 1;
    if (!this.all) for (let columns = 2; columns <= count; columns++) if (size(columns) > size(best) * 1.02) best = columns;
    this.stage.style.gridTemplateColumns = `repeat(${best}, minmax(0, 1fr))`;
    this.stage.style.gridAutoRows = this.all ? "minmax(210px, 1fr)" : "minmax(0, 1fr)";
  }

  redraw() {
    if (!this.level) return;
    const { look } = this, [low, high, unit] = this.facts?.window || [0, 1, ""];
    this.level.value = look.level; this.width.value = look.width;
    const physical = share => low + share * (high - low), fine = high - low > 20 ? 0 : 2;
    this.levelTold.textContent = physical(look.level).toFixed(fine);
    this.widthTold.textContent = (look.width * (high - low)).toFixed(fine);
    this.level.title = this.width.title = unit;
    this.outliner.setAttribute("aria-pressed", String(look.outlines)); this.outliner.classList.toggle("on", look.outlines);
    this.pixels.setAttribute("aria-pressed", String(!look.smooth)); this.pixels.classList.toggle("on", !look.smooth);
    this.stage.classList.toggle("zoomed", look.zoom > 1);
    cancelAnimationFrame(this.drawing);
    this.drawing = requestAnimationFrame(() => this.panels.forEach(panel => panel.draw()));
  }

  tell() {
    const { facts } = this, [first] = this.loaded;
    document.title = `${facts.name} · counterscan`;
    at("where").replaceChildren(make("b", {}, facts.name), badge(first.head.state), ...facts.labels.map(label => make("span", { class: "label" }, label)));
    Object.entries(this.modes).forEach(([mode, chip]) => { const on = mode === this.mode; chip.classList.toggle("on", on); chip.setAttribute("aria-pressed", String(on)); });
    const chip = (text, index, title) => { const on = index < 0 ? this.all : !this.all && index === this.method;
      return make("button", { class: `chip${on ? " on" : ""}`, "aria-pressed": String(on), title, onclick: () => this.choose(index) }, text); };
    this.methods.replaceChildren(...(facts.methods.length > 1 ? [...facts.methods.map((one, index) => chip(one.label, index, one.title)), chip("Side by side", -1, "key m")] : []));
    side(this.side, facts, this.loaded);
  }

  fail(error) {
    this.stage.classList.remove("waiting");
    this.stage.replaceChildren(make("p", { class: "message", role: "alert" }, error.message));
    this.panels = [];
  }

  panelOf(target) { return target.closest?.(".frame")?.panel; }
  leave() { clearInterval(this.blinking); this.strip.stop(); this.visit++; }

  key(event) {
    if (event.target.matches("input[type=range]") && event.key.startsWith("Arrow")) return false;
    const act = {
      ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1), Escape: () => { location.hash = this.facts && this.index >= 0 ? this.gallery.home() : "#/"; },
      p: () => this.turn("panels"), s: () => this.turn("swipe"), b: () => this.turn(this.mode === "blink" ? "panels" : "blink"),
      o: () => this.outline(), x: () => this.smooth(), m: () => this.cycle(), "0": () => this.look.reset(), "+": () => this.look.scale(1.3), "=": () => this.look.scale(1.3), "-": () => this.look.scale(1 / 1.3),
      "[": () => this.slide(-1), "]": () => this.slide(1), PageUp: () => this.slide(-10), PageDown: () => this.slide(10), ",": () => this.strip.step(-1), ".": () => this.strip.step(1),
    }[event.key];
    if (event.key === " " && !event.target.matches("button, a, summary")) {
      if (this.mode === "blink") { clearInterval(this.blinking); this.flip(); } else this.strip.play();
      return true;
    }
    if (!act) return false;
    act();
    this.tell();
    return true;
  }

  cycle() {
    const count = this.facts.methods.length;
    if (count > 1) this.choose(this.all ? 0 : this.method + 1 < count ? this.method + 1 : -1);
  }
}
