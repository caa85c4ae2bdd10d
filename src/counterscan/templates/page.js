"use strict";
const dialog = document.querySelector("dialog");
const key = name => name.replace(/[-_](\w)/g, (_, letter) => letter.toUpperCase());  // twin_ratio -> dataset.twinRatio

function dress(card) {  // what needs the image twice takes it from the first
  const image = card.querySelector(".base .image");
  card.querySelectorAll("img.same").forEach(copy => { copy.src = image.src; });
}

function blink(card, on) {
  const base = card.querySelector(".base"), other = card.querySelector("img.cf");
  base.querySelector(".flash")?.remove();
  if (!on || !other) return;
  const layer = other.cloneNode();
  layer.className = "flash";
  layer.removeAttribute("loading");
  base.append(layer);
}

class Section {
  constructor(root) {
    this.root = root;
    this.by = "name"; this.down = false; this.state = "all"; this.text = ""; this.blinking = false; this.table = false;
    this.list = root.querySelector(".list");
    this.cards = [...root.querySelectorAll(".card")].map(card => {
      const row = card.querySelector(".row"), item = { card, row };
      card.querySelector("table").remove();
      dress(card);
      for (const one of [card, row]) {
        one.addEventListener("click", () => this.open(item));
        one.addEventListener("keydown", event => { if (event.key === "Enter") this.open(item); });
      }
      return item;
    });
    root.querySelectorAll(".chips .chip").forEach(chip => {
      const count = this.cards.filter(({ card }) => chip.dataset.state === "all" || card.dataset.state === chip.dataset.state).length;
      chip.insertAdjacentHTML("beforeend", `<i>${count}</i>`);
      chip.hidden = !count;
      chip.addEventListener("click", () => { this.state = chip.dataset.state; this.show(); });
    });
    this.on("input", "input", event => { this.text = event.target.value.toLowerCase(); this.show(); });
    this.on(".by", "change", event => this.sort(event.target.value, false));
    this.on(".reverse", "click", () => this.sort(this.by, !this.down));
    this.on(".blinker", "click", () => this.blink());
    this.on(".viewer", "click", () => this.view());
    this.on(".outliner", "click", outlines);
    root.querySelectorAll(".list th button").forEach(button =>
      button.addEventListener("click", () => this.sort(button.dataset.key, this.by === button.dataset.key && !this.down)));
    this.show();
  }
  on(where, what, act) { this.root.querySelector(where)?.addEventListener(what, act); }
  sort(by, down) { this.by = by; this.down = down; this.root.querySelector(".by").value = by; this.show(); }
  next() {
    const options = [...this.root.querySelector(".by").options].map(option => option.value);
    this.sort(options[(options.indexOf(this.by) + 1) % options.length], false);
  }
  view() { this.table = !this.table; this.root.querySelector(".viewer").classList.toggle("on", this.table); this.show(); }
  blink() {
    this.blinking = !this.blinking;
    this.root.querySelector(".blinker")?.classList.toggle("on", this.blinking);
    this.cards.forEach(({ card }) => blink(card, this.blinking));
  }
  matching() {
    return this.visible = this.cards.filter(({ card }) =>
      (this.state === "all" || card.dataset.state === this.state) && card.dataset.text.includes(this.text));
  }
  show() {
    const value = ({ card }) => card.dataset[key(this.by)], number = this.by !== "name", sign = this.down ? -1 : 1;
    this.cards.sort((a, b) => {
      const [one, two] = [value(a), value(b)];
      if (one === undefined || two === undefined) return (one === undefined) - (two === undefined);  // unknown last
      return sign * (number ? one - two : one.localeCompare(two, undefined, { numeric: true }));
    });
    const visible = new Set(this.matching());
    const home = this.root.querySelector(".cards"), body = this.list.querySelector("tbody");
    this.cards.forEach(item => {
      item.card.hidden = item.row.hidden = !visible.has(item);
      home.append(item.card);
      body.append(item.row);
    });
    home.hidden = this.table;
    this.list.hidden = !this.table;
    this.root.querySelector(".none").hidden = visible.size > 0;
    this.root.querySelectorAll(".chips .chip").forEach(chip => chip.classList.toggle("on", chip.dataset.state === this.state));
    this.list.querySelectorAll("th button").forEach(button => {
      const chosen = button.dataset.key === this.by;
      button.parentElement.className = chosen ? (this.down ? "down" : "up") : "";
      button.parentElement.ariaSort = chosen ? (this.down ? "descending" : "ascending") : "none";
    });
  }
  open(item) {
    current = this; this.item = item;
    const card = item.card.cloneNode(true);
    card.hidden = false;
    card.removeAttribute("tabindex");
    dialog.querySelector(".big").replaceChildren(card);
    blink(card, this.blinking);
    if (!dialog.open) dialog.showModal();
  }
  step(by) {
    const place = this.visible.indexOf(this.item) + by;
    if (this.visible[place]) this.open(this.visible[place]);
  }
}

function outlines() {
  const on = document.body.classList.toggle("outlines");
  document.querySelectorAll(".outliner").forEach(chip => chip.classList.toggle("on", on));
}

const sections = [...document.querySelectorAll(".section")].map(root => new Section(root));
let current = sections[0];
sections.forEach(section => section.root.addEventListener("pointerenter", () => { if (!dialog.open) current = section; }));
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT/.test(event.target.tagName)) return;
  const act = {
    s: () => current.next(), r: () => current.sort(current.by, !current.down), t: () => current.view(), o: outlines,
    b: () => { current.blink(); if (dialog.open) current.open(current.item); },
    "/": () => current.root.querySelector("input").focus(),
    ArrowRight: () => dialog.open && current.step(1), ArrowLeft: () => dialog.open && current.step(-1),
  }[event.key];
  if (act) { act(); if (event.key === "/") event.preventDefault(); }
});
