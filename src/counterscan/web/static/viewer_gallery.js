// The gallery: filters, order, and a grid of which only what can be seen exists.
import { at, askJson, badge, make, number, path, spoken } from "./viewer_kit.js";

const PAGE = 60, GAP = 12, WIDE = 250, AROUND = 2;  // cases a request, pixels, rows beyond what is seen
const FIELDS = ["run", "state", "label", "split", "text", "column", "low", "high", "sort", "down"];

export class Gallery {
  constructor(archive) {
    this.archive = archive;
    this.asked = {};       // the query as the address has it
    this.pages = new Map(); // page number -> promise of rows
    this.total = 0;
    this.focus = 0;
    this.grid = at("grid"); this.tall = at("tall");
    this.cards = new Map(); // index -> element
    this.fill();
    this.listen();
    if (archive.known < 1) setTimeout(() => this.learn(), 1500);
  }

  fill() {
    const { runs, states, labels, splits, columns, cases } = this.archive;
    const pick = (name, value, text, note) => make("button", { type: "button", class: "pick", "data-name": name, "data-value": value,
      onclick: () => this.set({ [name]: value }) }, text, " ", make("small", {}, note));
    const several = runs.length > 1;
    at("runs").replaceChildren(make("legend", {}, "Method"), ...(several ? [pick("run", "", make("span", {}, "All methods"), String(cases))] : []),
      ...runs.map(run => pick("run", several ? run.run : "", make("span", { title: `${run.title}: ${run.explainer}` }, run.label, " ", make("small", {}, run.title)), String(run.cases))));
    at("states").replaceChildren(make("legend", {}, "Answer"), pick("state", "", make("span", {}, "Any"), ""),
      ...Object.entries(states).map(([state, count]) => pick("state", state, make("span", {}, state), String(count))));
    options(at("label"), "any", Object.entries(labels).map(([name, count]) => [name, `${name} (${count})`]));
    options(at("split"), "any", Object.entries(splits).map(([name, count]) => [name, `${name} (${count})`]));
    at("label-box").hidden = !Object.keys(labels).length;
    at("split-box").hidden = Object.keys(splits).length < 2;
    options(at("column"), "any figure", columns.map(name => [name, spoken(name)]));
    options(at("sort"), null, [["name", "name"], ...columns.map(name => [name, spoken(name)])]);
    this.state();
  }

  async learn() {  // labels and splits come a little later
    try {
      const now = await askJson("/api/archive");
      Object.assign(this.archive, now);
      this.fill();
      if (now.known < 1) setTimeout(() => this.learn(), 1500);
      else this.renew();
    } catch { setTimeout(() => this.learn(), 5000); }
  }

  listen() {
    const change = (id, name = id) => at(id).addEventListener("change", event => this.set({ [name]: event.target.value }));
    ["label", "split", "column", "low", "high", "sort"].forEach(name => change(name));
    let wait;
    at("text").addEventListener("input", event => { clearTimeout(wait); wait = setTimeout(() => this.set({ text: event.target.value }), 180); });
    at("filter-form").addEventListener("submit", event => event.preventDefault());
    at("reverse").addEventListener("click", () => this.set({ down: this.asked.down ? "" : "true" }));
    at("clear").addEventListener("click", () => { location.hash = "#/"; });
    this.grid.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.layout()).observe(this.grid);
    if (matchMedia("(max-width:860px)").matches) at("filters").open = false;
  }

  set(change) {
    const next = { ...this.asked, ...change };
    if ("column" in change) next.low = next.high = "";
    location.hash = `#/?${clean(next)}`;
  }

  show(query) {
    document.title = "counterscan viewer";
    const asked = Object.fromEntries(FIELDS.map(name => [name, query.get(name) || ""]).filter(([, value]) => value));
    const changed = clean(asked).toString() !== clean(this.asked).toString() || !this.pages.size;
    this.asked = asked;
    this.state();
    if (changed) { this.focus = 0; this.grid.scrollTop = 0; this.renew(); } else { this.layout(); this.cards.get(this.focus)?.focus({ preventScroll: true }); }
  }

  state() {
    document.querySelectorAll("#gallery .pick").forEach(pick => pick.setAttribute("aria-pressed", String((this.asked[pick.dataset.name] || "") === pick.dataset.value)));
    for (const name of ["label", "split", "column", "low", "high", "text"]) if (document.activeElement !== at(name)) at(name).value = this.asked[name] || "";
    at("sort").value = this.asked.sort || "name";
    at("reverse").setAttribute("aria-pressed", String(Boolean(this.asked.down)));
    at("reverse").classList.toggle("on", Boolean(this.asked.down));
    at("range").hidden = !this.asked.column;
    at("clear").hidden = !FIELDS.slice(0, 8).some(name => this.asked[name]);
  }

  async renew() {
    this.pages.clear();
    this.cards.forEach(card => card.remove());
    this.cards.clear();
    try {
      await this.page(0);
      at("count").textContent = `${this.total.toLocaleString("en")} case${this.total === 1 ? "" : "s"}`;
    } catch (error) { at("count").textContent = error.message; this.total = 0; }
    this.tall.querySelector(".empty")?.remove();
    if (!this.total) this.tall.append(make("p", { class: "empty" }, "No case matches. Show all, or widen a filter."));
    this.layout();
  }

  page(index) {
    if (!this.pages.has(index)) {
      const asked = clean({ ...this.asked, start: index * PAGE, count: PAGE });
      const promise = askJson(`/api/cases?${asked}`).then(answer => { this.total = answer.total; return answer.rows; });
      promise.catch(() => this.pages.delete(index));
      this.pages.set(index, promise);
      if (this.pages.size > 40) this.pages.delete(this.pages.keys().next().value);
    }
    return this.pages.get(index);
  }

  async row(index) {  // the case at a place in the present order
    if (index < 0) return null;
    const rows = await this.page(Math.floor(index / PAGE));
    return rows[index % PAGE] || null;
  }

  async place(run, name) {  // where a case stands in the present order, for an address that does not say
    const answer = await askJson(`/api/cases?${clean({ ...this.asked, count: 1, find: name, beside: run })}`);
    this.total = answer.total;
    return answer.place;
  }

  address(row, index) { return `#/case/${path(row.run, row.name)}?${clean({ ...this.asked, i: index })}`; }
  home() { return `#/?${clean(this.asked)}`; }

  layout() {
    const room = this.tall.clientWidth;
    if (!room) return;
    this.columns = Math.max(1, Math.floor((room + GAP) / (WIDE + GAP)));
    this.wide = (room - GAP * (this.columns - 1)) / this.columns;
    this.high = Math.round((this.wide - 18) / 2 + 70);
    this.tall.style.height = `${Math.ceil(this.total / this.columns) * (this.high + GAP)}px`;
    this.cards.forEach((card, index) => this.put(card, index));
    this.draw();
  }

  put(card, index) {
    card.style.left = `${(index % this.columns) * (this.wide + GAP)}px`;
    card.style.top = `${Math.floor(index / this.columns) * (this.high + GAP)}px`;
    card.style.width = `${this.wide}px`;
    card.style.height = `${this.high}px`;
  }

  draw() {
    if (!this.columns || at("gallery").hidden) return;
    const step = this.high + GAP, top = Math.floor(this.grid.scrollTop / step) - AROUND;
    const first = Math.max(0, top) * this.columns;
    const last = Math.min(this.total, (top + Math.ceil(this.grid.clientHeight / step) + 2 * AROUND + 1) * this.columns);
    this.cards.forEach((card, index) => { if (index < first || index >= last) { card.remove(); this.cards.delete(index); } });
    for (let index = first; index < last; index++) if (!this.cards.has(index)) this.add(index);
  }

  add(index) {
    const card = make("a", { class: "tile-case", role: "listitem", "aria-posinset": index + 1, "aria-setsize": this.total, tabindex: index === this.focus ? 0 : -1 });
    this.cards.set(index, card);
    this.put(card, index);
    this.tall.append(card);
    card.addEventListener("focus", () => this.turn(index));
    this.row(index).then(row => row && this.dress(card, row, index), () => {});
  }

  dress(card, row, index) {
    card.href = this.address(row, index);
    const sort = this.asked.sort, value = sort && sort !== "name" ? row.numbers[sort] : undefined;
    const image = make("img", { alt: "", decoding: "async", src: `/thumb/${path(row.run, row.name)}`, onerror: () => image.replaceWith("no picture") });
    card.setAttribute("aria-label", `${row.name}, ${row.state}${row.labels.length ? `, ${row.labels.join(", ")}` : ""}`);
    card.replaceChildren(make("span", { class: "thumb" }, image),
      make("span", { class: "line" }, make("b", {}, row.name), badge(row.state)),
      make("span", { class: "line" }, make("span", {}, [row.labels.join(", ") || row.patient, row.slices > 1 ? `${row.slices} slices` : ""].filter(Boolean).join(" · ")),
        value !== undefined && make("span", { class: "value" }, `${spoken(sort)} ${number(value)}`)));
  }

  turn(index) {
    this.cards.get(this.focus)?.setAttribute("tabindex", -1);
    this.focus = index;
    this.cards.get(index)?.setAttribute("tabindex", 0);
  }

  go(index) {
    if (index < 0 || index >= this.total) return;
    const top = Math.floor(index / this.columns) * (this.high + GAP), { scrollTop, clientHeight } = this.grid;
    if (top < scrollTop) this.grid.scrollTop = top;
    if (top + this.high > scrollTop + clientHeight) this.grid.scrollTop = top + this.high - clientHeight + GAP;
    this.draw();
    this.turn(index);
    this.cards.get(index)?.focus({ preventScroll: true });
  }

  key(event) {
    const far = Math.max(1, Math.floor(this.grid.clientHeight / (this.high + GAP))) * this.columns;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -far, PageDown: far, Home: -this.focus, End: this.total - 1 - this.focus };
    if (event.target.matches("input, select")) return event.key === "Escape" && (event.target.blur(), true);
    if (event.key === "/") return at("filters").open = true, at("text").focus(), true;
    if (!(event.key in moves) || event.target.closest(".filters, .toolbar")) return false;
    this.go(Math.max(0, Math.min(this.total - 1, this.focus + moves[event.key])));
    return true;
  }
}

function options(select, none, pairs) {
  const before = select.value;
  select.replaceChildren(...(none === null ? [] : [make("option", { value: "" }, none)]), ...pairs.map(([value, text]) => make("option", { value }, text)));
  select.value = before;
}

function clean(query) {
  return new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null));
}
