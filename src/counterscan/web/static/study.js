"use strict";
import { Stage } from "./study_pictures.js";
import { Kept, Lost, Queue, ask, random } from "./study_queue.js";
import { LEVELS, anchors, el, finished, keyTable, opening, outside, paused, practised, stranded, washout, welcome } from "./study_pages.js";

const find = id => document.getElementById(id);
const sheet = find("sheet"), desk = find("desk"), panel = find("panel"), helper = find("helper"), curtain = find("curtain");
const YES_NO = {
  "real-or-synthetic": [["real", "Real", "r"], ["synthetic", "Synthetic", "s"]],
  lesion: [["absent", "Absent", "a"], ["present", "Present", "p"]],
};
const PICTURE_KEYS = [
  [["+", "−"], "zoom; also the wheel, or two fingers"], [["←", "→", "↑", "↓"], "move; also drag"],
  [["[", "]"], "contrast; also drag with the right button, or with the Window tool"], [[",", "."], "brightness"],
  [["W"], "what dragging does: move or window"], [["I"], "invert"], [["0"], "back to the start; also a double click"],
];

let state = null, queue = null, clock = null, trial = null, blobs = new Map(), practising = false, busy = false, overlay = "";
const stage = new Stage(find("stage"), { onUse: what => clock?.count(what) });

class Clock {  // how long a trial's pictures were in view, over reloads and pauses
  constructor(name, id) {
    this.kept = new Kept(name, {});
    const before = this.kept.value;
    this.id = id;
    Object.assign(this, before.id === id ? { ms: before.ms, tools: before.tools } : { ms: 0, tools: {} });
    this.count("views");
  }
  get running() { return this.since !== undefined; }
  start() { if (!this.running && !document.hidden) this.since = performance.now(); }
  stop() { this.ms = this.total; this.since = undefined; this.save(); }
  get total() { return this.ms + (this.running ? performance.now() - this.since : 0); }
  count(what) { this.tools[what] = (this.tools[what] ?? 0) + 1; }
  save() { this.kept.value = { id: this.id, ms: this.total, tools: this.tools }; }
}

// ---- what is shown ----

function page(name, nodes) {
  overlay = name;
  clock?.stop();
  desk.hidden = true; sheet.hidden = false;
  find("pause").hidden = true;
  sheet.replaceChildren(...nodes.filter(Boolean));
  sheet.focus();
  window.scrollTo(0, 0);
}

function header() {
  if (!state) return;
  document.title = find("title").textContent = state.study;
  const part = state.part;
  find("where").textContent = part && state.phase !== "done" ? (part.of > 1 ? `Part ${part.sitting} of ${part.of}: ${part.title}` : part.title) : "";
  const done = Math.min(state.total, state.done + (queue?.waiting.length ?? 0));
  Object.assign(find("bar"), { max: state.total || 1, value: done });
  find("count").textContent = `${done} of ${state.total}`;
}

function net() {
  const waiting = queue?.waiting.length ?? 0, lost = queue?.lost || !navigator.onLine, chip = find("net");
  const many = `${waiting} answer${waiting === 1 ? "" : "s"}`;
  const text = lost ? (waiting ? `No connection: ${many} kept here, will be sent` : "No connection") : waiting ? `Storing ${many}` : "All answers stored";
  chip.className = `badge ${lost ? "not-found" : waiting ? "" : "found"}`;
  if (chip.textContent !== text) chip.textContent = text;
  header();
}

// ---- going on ----

async function refresh() {
  try { take(await ask("/api/state")); } catch (error) {
    if (!(error instanceof Lost)) return page("outside", outside(error.message, queue?.waiting.length ?? 0));
    if (queue) queue.lost = true; else find("net").textContent = "No connection";
    if (overlay !== "stranded") page("stranded", stranded(queue?.waiting.length ?? 0));
    setTimeout(refresh, 2000);
    return;
  }
  if (queue.lost) { queue.lost = false; net(); }
  if (queue.waiting.length) { queue.soon(); if (!trial) next(); } else next();
}

function take(fresh) {
  state = fresh;
  if (!queue || queue.kept.name !== `answers.${state.mark}`) {
    queue = new Queue(`answers.${state.mark}`, { deliver, onStored, onRefused, onChange: net });
  }
  const wanted = new Set((state.trials ?? []).flatMap(one => one.pictures));
  blobs = new Map([...blobs].filter(([name]) => wanted.has(name)));
  if (state.begun && state.part.longest === null) state.trials?.forEach(one => one.pictures.forEach(fetched));
  net();
}

function fetched(name) {  // a picture is asked for once; one that failed is asked for again
  if (!blobs.has(name)) {
    const coming = ask(`/api/pictures/${name}`);
    coming.catch(() => blobs.delete(name));
    blobs.set(name, coming);
  }
  return blobs.get(name);
}

function next() {
  trial = null;
  if (state.phase === "done") return page("done", finished(state, text => remark("comment", "", { text: clean(text) })));
  const waiting = new Set(queue.waiting.map(answer => answer.trial));
  if (state.phase === "wait") return page("wait", washout(state));
  if (!state.asked && !state.done) return page("welcome", welcome(state, facts => remark("about", "", facts)));
  if (!state.begun) return page("opening", opening(state, keyTable([...answerKeys(), ...PICTURE_KEYS]), begin));
  const coming = state.trials.find(one => !waiting.has(one.id));
  if (!coming) return page("stranded", stranded(waiting.size));
  if (practising && !coming.practice) return page("practised", practised(() => { practising = false; next(); }));
  practising = coming.practice;
  return show(coming);
}

async function remark(kind, item, facts) {
  try { take(await ask("/api/remarks", { key: state.csrf, body: { kind, item, facts } })); next(); } catch { refresh(); }
}

const begin = () => remark("begin", String(state.part.number), {
  width: screen.width, height: screen.height, view_width: innerWidth, view_height: innerHeight,
  dots: Math.round(100 * (devicePixelRatio || 1)), depth: screen.colorDepth, touch: navigator.maxTouchPoints ?? 0,
});

async function show(coming) {
  trial = coming; overlay = "";
  sheet.hidden = true; desk.hidden = false;
  find("pause").hidden = false;
  desk.classList.add("loading");
  stage.clear();
  cover("");
  form(coming);
  try {
    const found = await Promise.all(coming.pictures.map(fetched));
    if (trial !== coming) return;
    await stage.show(found.map((blob, at) => ({ blob, label: described(coming, at), caption: caption(coming, at) })));
  } catch (error) {
    if (trial !== coming) return;
    if (error.status !== 410) { setTimeout(refresh, error instanceof Lost ? 1500 : 300); if (error instanceof Lost) { queue.lost = true; net(); trial = null; page("stranded", stranded(queue.waiting.length)); } return; }
  }
  desk.classList.remove("loading");
  clock = new Clock(`clock.${state.mark}`, coming.id);
  clock.start();
  tick();
  find("question").focus();
  find("live").textContent = `${numbered(coming)}. ${state.part.question}`;
}

let ticking;
function tick() {  // the shortest and the longest time
  clearTimeout(ticking);
  if (!trial || !clock || clock.id !== trial.id || busy) return;
  const { shortest, longest } = state.part, gone = clock.total / 1000;
  const over = longest !== null && gone >= Math.min(longest, state.left ?? longest);
  if (over && !overlay) cover("The time for this picture is over. Please answer from what you saw.");
  find("limit")?.setAttribute("value", Math.max(0, longest - gone));
  ready();
  if (!overlay && (!over || gone < shortest)) ticking = setTimeout(tick, 100);
}

function cover(text) { curtain.textContent = text; curtain.hidden = !text; stage.cover(Boolean(text)); }

const numbered = one => `${one.practice ? "Practice" : "Picture"} ${one.number} of ${one.of}`;
const described = (one, at) => one.captions[at] ? `picture ${one.captions[at]}` : "the picture to judge";

function caption(one, at) {
  if (!one.captions.some(Boolean)) return null;
  const text = one.captions[at] || "to judge";
  return positional() ? el("label", { className: "caption", htmlFor: `choice-${at}` }, el("b", {}, text)) : el("figcaption", { className: "caption" }, text);
}

// ---- answering ----

const positional = () => !YES_NO[state.part.task] && state.part.task !== "realism";
const options = () => positional() ? trial.captions.map((text, at) => [String(at), text, text.toLowerCase()]) : YES_NO[state.part.task] ?? [];

function answerKeys() {
  const keys = positional() ? ["A", "B", "…"] : (YES_NO[state.part.task] ?? []).map(([, , key]) => key.toUpperCase());
  const scale = state.part.task === "realism" ? "how real it looks" : "how sure you are";
  return [...(keys.length ? [[keys, positional() ? "choose a picture" : "choose an answer"]] : []), ...(positional() ? [] : [[["1", "…", "5"], scale]]), [["Enter"], "confirm, and go on"]];
}

function radios(name, legend, rows, look) {
  return el("fieldset", { className: look }, el("legend", {}, legend), el("div", { className: "options" }, ...rows.map(([value, text, key]) =>
    el("label", { className: "option" }, el("input", { type: "radio", name, value, id: `${name}-${value}`, required: true }),
      el("span", {}, el("b", {}, text), key === null ? "" : el("kbd", {}, key.toUpperCase()))))));
}

function scale(name, legend, words) {
  const row = radios(name, legend, words.map((text, at) => [String(at + 1), String(at + 1), null]), "scale");
  row.querySelectorAll("input").forEach((input, at) => input.setAttribute("aria-label", `${at + 1}, ${words[at]}`));
  row.append(el("div", { className: "ends", "aria-hidden": "true" }, el("span", {}, words[0]), el("output", {}), el("span", {}, words.at(-1))));
  row.addEventListener("change", event => { row.querySelector("output").textContent = words[event.target.value - 1]; });
  return row;
}

function form(coming) {
  const part = state.part, asks = [];
  if (part.task === "realism") asks.push(scale("rating", "How real does it look?", anchors(part)));
  else {
    asks.push(radios("choice", positional() ? "Your choice" : "Your answer", options(), "choice"));
    if (!positional()) asks.push(scale("confidence", "How sure are you?", LEVELS));
  }
  const reasons = el("details", {}, el("summary", {}, "Why? ", el("small", {}, "optional")),
    el("div", { className: "reasons" }, ...part.reasons.map(text => el("label", {}, el("input", { type: "checkbox", name: "reasons", value: text }), text))),
    el("textarea", { name: "text", rows: 2, maxlength: 2000, placeholder: "in your words", "aria-label": "why, in your words" }));
  panel.replaceChildren(
    el("p", { className: "kicker" }, numbered(coming)), el("h2", { id: "question", tabindex: -1 }, part.question),
    part.longest === null ? "" : el("progress", { id: "limit", max: part.longest, value: part.longest, "aria-label": "time left for the picture" }),
    ...asks, reasons, el("div", { id: "verdict", role: "status" }),
    el("button", { id: "confirm", className: "main", type: "submit", disabled: true }, "Confirm", el("kbd", {}, "Enter")));
  busy = false;
}

function complete() {
  const filled = new FormData(panel), part = state.part;
  return part.task === "realism" ? filled.has("rating") : filled.has("choice") && (positional() || filled.has("confidence"));
}

function ready() {
  const confirm = find("confirm"), left = state.part.shortest - (clock?.total ?? 0) / 1000;
  if (!confirm || busy) return false;
  const allowed = trial && clock?.id === trial.id && left <= 0;
  confirm.disabled = !(allowed && complete());
  const text = allowed ? "Confirm" : left > 0 && clock?.id === trial?.id ? `Look for ${Math.ceil(left)} s more` : "Confirm";
  if (confirm.firstChild.textContent !== text) confirm.firstChild.textContent = text;
  return !confirm.disabled;
}

const clean = text => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, " ").replace(/[\ud800-\udfff](?![\udc00-\udfff])(?<![\ud800-\udbff].)/g, "").trim();
const number = value => value === null ? null : Number(value);

function commit() {
  const filled = new FormData(panel);
  clock.stop();
  const answer = {
    trial: trial.id, nonce: random(), choice: filled.get("choice"), confidence: number(filled.get("confidence")), rating: number(filled.get("rating")),
    reasons: filled.getAll("reasons"), text: clean(filled.get("text") ?? ""), rt_ms: Math.round(clock.ms), tools: clock.tools,
  };
  const waits = trial.waits;
  busy = true;
  find("confirm").disabled = true;
  if (waits) { find("verdict").textContent = "Storing your answer"; cover("Storing your answer"); queue.add(answer); }
  else { queue.add(answer); next(); }
}

const deliver = async answer => {
  try { return await ask("/api/answers", { key: state.csrf, body: answer }); } catch (error) {
    if (error.status !== 403) throw error;
    take(await ask("/api/state"));  // the page is of an older visit: its key is asked for anew
    return ask("/api/answers", { key: state.csrf, body: answer });
  }
};

function onStored(answer, word) {
  const shown = trial?.id === answer.trial && busy;
  if (shown && word.feedback) { verdict(word.feedback); return take(word.state); }
  take(word.state);
  if (shown || overlay === "stranded" || (!trial && !overlay)) next();
}

function onRefused(answer, error) {
  if (error.status === 401) return page("outside", outside(error.message, queue.waiting.length));
  find("live").textContent = error.message;
  trial = null;
  refresh();
}

function verdict({ right, truth }) {
  cover("");
  const words = Object.fromEntries(options().map(([value, text]) => [value, text]));
  const told = positional() ? `The answer is ${words[truth] ?? truth}.` : `It is ${(words[truth] ?? truth).toLowerCase()}.`;
  find("verdict").replaceChildren(el("p", { className: right ? "right" : "wrong" }, el("b", {}, right ? "Right. " : "Not so. "), told));
  panel.querySelectorAll("input, textarea").forEach(input => { input.disabled = true; });
  const go = el("button", { className: "main", type: "button", id: "confirm", onclick: next }, "Next", el("kbd", {}, "Enter"));
  find("confirm").replaceWith(go);
  go.focus();
}

// ---- tools, keys ----

const tool = (name, label, key, act) => el("button", { type: "button", className: "chip", title: `${label} (${key})`, "aria-label": label, onclick: act, id: /\w/.test(name) ? `tool-${name}` : null }, name);
const uses = (what, act) => () => { if (trial) { clock?.count(what); act(); } };
const act = {
  closer: uses("zoom", () => stage.zoomBy(1.25)), farther: uses("zoom", () => stage.zoomBy(.8)),
  more: uses("window", () => stage.windowBy(-.12, 0)), less: uses("window", () => stage.windowBy(.12, 0)),
  brighter: uses("window", () => stage.windowBy(0, 8)), darker: uses("window", () => stage.windowBy(0, -8)),
  invert: uses("window", () => { stage.invert(); find("tool-invert").setAttribute("aria-pressed", stage.inverted); }),
  reset: () => { stage.reset(); find("tool-invert").setAttribute("aria-pressed", "false"); },
  drag: () => {
    stage.tool = stage.tool === "move" ? "window" : "move";
    find("tool-window").setAttribute("aria-pressed", stage.tool === "window");
    find("stage").classList.toggle("windowing", stage.tool === "window");
  },
  pause: () => { const held = trial; page("pause", paused(() => resume(held))); },
};

function resume(held) {
  if (!held || trial !== held) return next();
  overlay = "";
  sheet.hidden = true; desk.hidden = false; find("pause").hidden = false;
  stage.draw();
  clock?.start();
  tick();
  find("question").focus();
}

const group = (label, ...tools) => el("span", { role: "group", "aria-label": label }, el("small", { "aria-hidden": true }, label), ...tools);
find("tools").append(
  group("zoom", tool("−", "zoom out", "−", act.farther), tool("+", "zoom in", "+", act.closer), tool("fit", "whole picture, first window", "0", act.reset)),
  group("contrast", tool("−", "less contrast", "[", act.less), tool("+", "more contrast", "]", act.more)),
  group("brightness", tool("−", "darker", ",", act.darker), tool("+", "brighter", ".", act.brighter)),
  group("", tool("window", "dragging changes the window", "W", act.drag), tool("invert", "invert", "I", act.invert)));
for (const name of ["window", "invert"]) find(`tool-${name}`).setAttribute("aria-pressed", "false");

const KEYS = {
  "+": act.closer, "=": act.closer, "-": act.farther, "−": act.farther, "]": act.more, "[": act.less, ".": act.brighter, ",": act.darker,
  0: act.reset, i: act.invert, w: act.drag, ArrowLeft: uses("pan", () => stage.panBy(40, 0)), ArrowRight: uses("pan", () => stage.panBy(-40, 0)),
  ArrowUp: uses("pan", () => stage.panBy(0, 40)), ArrowDown: uses("pan", () => stage.panBy(0, -40)),
};

function pick(key) {  // an answer by its key
  const [value] = options().find(([, , own]) => own === key) ?? [];
  const scaled = /^[1-5]$/.test(key) ? panel.querySelector(`.scale input[value="${key}"]`) : null;
  const input = value === undefined ? scaled : find(`choice-${value}`);
  if (!input || input.disabled) return false;
  input.checked = true;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  return true;
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || helper.open) return;
  const { target, key } = event, writing = /TEXTAREA|SELECT/.test(target.tagName) || (target.tagName === "INPUT" && !/radio|checkbox/.test(target.type));
  if (writing) return;
  if (key === "?") { help(); return event.preventDefault(); }
  if (!sheet.hidden && key === "Enter" && !/^(BUTTON|A)$/.test(target.tagName)) { event.preventDefault(); return sheet.querySelector("button.main")?.click(); }
  if (!trial || !sheet.hidden) return;
  if (key === "Enter") {
    if (/BUTTON|SUMMARY/.test(target.tagName) && target.id !== "confirm") return;
    event.preventDefault();
    const confirm = find("confirm");
    return confirm.type === "button" ? next() : ready() && !event.repeat && commit();
  }
  const own = key.length === 1 ? key.toLowerCase() : key;
  if (key.startsWith("Arrow") && target.tagName === "INPUT") return;  // arrows go from one answer to the next there
  if (pick(own)) return event.preventDefault();
  if (KEYS[own]) { KEYS[own](); event.preventDefault(); }
});

function help() {
  const rows = state?.part ? [...answerKeys(), ...PICTURE_KEYS] : PICTURE_KEYS;
  helper.replaceChildren(el("button", { className: "close", "aria-label": "close", type: "button", onclick: () => helper.close() }, "×"),
    el("h2", { id: "helper-title" }, "Help"), state?.part ? el("p", {}, state.part.instructions) : "", keyTable(rows),
    el("p", { className: "note" }, "A lost connection loses no answer: it is kept in this browser and sent again."));
  helper.showModal();
}

panel.addEventListener("change", ready);
panel.addEventListener("submit", event => { event.preventDefault(); if (ready()) commit(); });
find("help").addEventListener("click", help);
find("pause").addEventListener("click", act.pause);
window.addEventListener("online", () => { net(); if (overlay === "stranded") refresh(); });
window.addEventListener("offline", net);
window.addEventListener("pagehide", () => clock?.stop());
document.addEventListener("visibilitychange", () => {
  if (!clock || !trial || overlay || busy) return;
  if (document.hidden) { clock.count("away"); clock.stop(); } else { clock.start(); tick(); }
});
refresh();
