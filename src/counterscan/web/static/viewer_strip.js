// What runs below the pictures: the slices of a volume, and the frames of the way to a counterfactual.
import { parse } from "./viewer_draw.js";
import { ask, make, path, still } from "./viewer_kit.js";

const PACE = 260;  // milliseconds a frame

export class Strip {
  constructor(page) {
    this.page = page;
    this.root = make("div", { class: "strip" });
    this.at = null;  // the frame shown, null for the counterfactual itself
    this.key = "";
  }

  fit(head, facts) {
    this.stop();
    const key = `${facts.run}/${facts.name}/${head.slice}`;
    if (key !== this.key) { this.key = key; this.at = null; this.frames = null; }
    this.head = head; this.facts = facts;
    const rows = [];
    if (head.slices > 1) rows.push(this.slices(head));
    if (head.frames > 1 && !this.page.all) rows.push(this.film(head));
    this.root.replaceChildren(...rows);
  }

  slices(head) {
    const map = make("canvas", { "aria-hidden": "true", height: 26 });
    const input = make("input", { type: "range", min: 1, max: head.slices, value: head.slice + 1, "aria-label": "slice", oninput: () => this.page.slide(input.value - 1 - this.page.slice) });
    map.addEventListener("pointerdown", event => this.page.slide(Math.floor(event.offsetX / map.clientWidth * head.slices) - this.page.slice));
    requestAnimationFrame(() => profile(map, head));
    return make("div", { class: "scrub" }, make("output", {}, `slice ${head.slice + 1} of ${head.slices}`), make("div", { class: "long" }, map, input));
  }

  film(head) {
    this.told = make("output", {}, "counterfactual");
    this.slider = make("input", { type: "range", min: 0, max: head.frames, value: head.frames, "aria-label": "frame of the path", oninput: () => this.go(+this.slider.value) });
    this.player = make("button", { class: "chip", title: "key Space", onclick: () => this.play() }, "Play the path");
    return make("div", { class: "scrub" }, this.told, make("div", { class: "long" }, this.slider), this.player);
  }

  async go(frame) {  // the last place is the counterfactual
    const { head, facts, key } = this;
    if (!this.frames) {
      try { this.frames = parse(await (await ask(`/api/frames/${path(facts.run, facts.name)}?slice=${head.slice}`)).arrayBuffer()); }
      catch (error) { this.told.textContent = error.message; return; }
      if (key !== this.key) return;
    }
    const last = Object.keys(this.frames.planes).length;
    this.at = frame >= last ? null : Math.max(0, frame);
    this.slider.value = this.at ?? last;
    const answer = this.frames.head.answers[this.at]?.[head.answers[0].index];
    this.told.textContent = this.at === null ? "counterfactual" : `frame ${this.at + 1} of ${last}${answer === undefined ? "" : ` · ${head.answers[0].name} ${answer.toFixed(2)}`}`;
    this.page.arrange();
  }

  step(by) { if (this.head?.frames > 1) this.go((this.at ?? this.head.frames) + by); }

  play() {
    if (!(this.head?.frames > 1) || this.page.all) return;
    if (this.playing) return this.stop();
    this.player.textContent = "Stop";
    let frame = 0, by = 1;
    const beat = () => { this.go(frame); if (frame + by > this.head.frames || frame + by < 0) by = -by; frame += by; };
    beat();
    this.playing = setInterval(beat, still.matches ? 3 * PACE : PACE);
  }

  stop() {
    clearInterval(this.playing);
    this.playing = null;
    if (this.player) this.player.textContent = "Play the path";
  }

  frame(block) { return this.at === null || !this.frames || block.head !== this.head ? null : this.frames.planes[`frame${this.at}`]; }
  name() { return this.at === null ? "" : `the way there, frame ${this.at + 1}`; }
}

function profile(map, head) {  // how far each slice is from what was asked for, and where the mask is
  const wide = map.width = map.clientWidth * devicePixelRatio, high = map.height = map.clientHeight * devicePixelRatio;
  const pen = map.getContext("2d"), step = wide / head.slices, style = getComputedStyle(document.documentElement);
  const colour = name => style.getPropertyValue(name).trim();
  head.profile.forEach((far, slice) => {
    pen.fillStyle = head.masked[slice] ? colour("--mask") : colour("--hover");
    const tall = Math.max(1, high * far);
    pen.fillRect(slice * step, high - tall, Math.max(1, step - 0.5), tall);
  });
  pen.fillStyle = colour("--accent");
  pen.fillRect(head.slice * step, 0, Math.max(2, step / 2), high);
}
