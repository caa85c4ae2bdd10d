"use strict";
// The pages between the pictures, and the small parts that all pages are made of.

export const LEVELS = ["a guess", "unsure", "fairly sure", "sure", "certain"];
const ANCHORS = ["clearly artificial", "probably artificial", "undecided", "probably real", "looks entirely real"];
export const anchors = part => part.anchors.length ? part.anchors : ANCHORS;

export function el(tag, facts = {}, ...inner) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "className" || name === "textContent" || name === "htmlFor") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...inner.filter(one => one !== null && one !== undefined && one !== ""));
  return node;
}

const field = (label, input) => el("label", { className: "field" }, el("span", {}, label), input);
const button = (text, act, more = {}) => el("button", { type: "button", className: "main", onclick: act, ...more }, text);
const seconds = value => `${value} second${value === 1 ? "" : "s"}`;

function greys() {  // steps from black to white, and two patches that a good display tells from their ground
  const step = at => el("i", { className: `g${at}` });
  return el("div", { className: "display" },
    el("div", { className: "greys", role: "img", "aria-label": "eleven grey steps from black to white" }, ...Array.from({ length: 11 }, (_, at) => step(at))),
    el("div", { className: "patches", role: "img", "aria-label": "a faint square on black, and one on white" }, el("b", { className: "dark" }, el("i")), el("b", { className: "bright" }, el("i"))),
    el("p", { className: "note" }, "You should see eleven different greys, and a faint square in the black and in the white field. If not, turn up the display or darken the room."));
}

export function welcome(state, go) {
  const years = el("input", { type: "number", min: 0, max: 80, step: 1, inputmode: "numeric" });
  const field_ = el("input", { type: "text", maxlength: 80 });
  const screen = el("select", {}, ...["", "diagnostic monitor", "desktop monitor", "laptop", "tablet", "other"].map(one => el("option", { value: one }, one || "choose")));
  const facts = () => Object.fromEntries(Object.entries({ years: years.value, field: field_.value, display: screen.value }).filter(([, value]) => value));
  return [
    el("p", { className: "kicker" }, "Reader study"), el("h1", {}, state.study),
    el("p", {}, `Welcome, ${state.reader}. You will see pictures one after the other and answer a question about each: ${state.total} in all. Every answer is stored at once. You can stop at any time and go on later, also on another device, with the same link.`),
    el("p", {}, "There is no way back to a picture once you have answered. Please do not talk about the pictures with other readers before everybody has finished."),
    el("h2", {}, "Your display"), greys(),
    el("h2", {}, "About you ", el("small", {}, "optional; kept with your answers")),
    el("div", { className: "fields" }, field("Years of experience", years), field("Field of work", field_), field("Display", screen)),
    el("div", { className: "row" }, button("Go on", () => go(facts()))),
  ];
}

export function opening(state, keys, go) {
  const part = state.part, facts = [
    part.shortest ? `Each picture is looked at for ${seconds(part.shortest)} at least.` : "",
    part.longest ? `Each picture is shown for ${seconds(part.longest)}; you can answer after that, too.` : "",
    part.feedback ? "It begins with practice, which tells you what was right." : "",
  ].filter(Boolean).join(" ");
  return [
    el("p", { className: "kicker" }, part.of > 1 ? `Part ${part.sitting} of ${part.of}` : "What to do"), el("h1", {}, part.title),
    ...part.instructions.split("\n").filter(Boolean).map(line => el("p", {}, line)),
    el("p", { className: "ask" }, part.question), facts ? el("p", { className: "note" }, facts) : null,
    keys, el("div", { className: "row" }, button("Begin", go)),
  ];
}

export const practised = go => [
  el("p", { className: "kicker" }, "Practice is over"), el("h1", {}, "Now it counts"),
  el("p", {}, "From here on your answers are analysed, and nobody tells you what was right."),
  el("div", { className: "row" }, button("Go on", go)),
];

export const paused = go => [
  el("p", { className: "kicker" }, "Pause"), el("h1", {}, "Take your time"),
  el("p", {}, "All that you answered is stored. The clock stands still; you can also close this page and open your link again later."),
  el("div", { className: "row" }, button("Go on", go)),
];

export function washout(state) {
  const day = new Date(state.until);
  return [
    el("p", { className: "kicker" }, `Part ${state.part.sitting} of ${state.part.of}`), el("h1", {}, "Thank you: that was all for now"),
    el("p", {}, "The next part comes after a break, so that you do not remember the pictures. Open the same link again from"),
    el("p", { className: "date" }, el("time", { datetime: state.until }, day.toLocaleDateString(undefined, { dateStyle: "full" }), `, ${day.toLocaleTimeString(undefined, { timeStyle: "short" })}`)),
  ];
}

export function finished(state, say) {
  const text = el("textarea", { rows: 4, maxlength: 2000, "aria-label": "your comment" });
  const comment = state.commented ? [el("p", { className: "note" }, "Your comment is stored.")] : [
    el("h2", {}, "Anything to add? ", el("small", {}, "optional")),
    el("p", { className: "note" }, "What gave the pictures away, what disturbed you, what was unclear?"), text,
    el("div", { className: "row" }, button("Send the comment", () => text.value.trim() && say(text.value)))];
  return [el("p", { className: "kicker" }, "Finished"), el("h1", {}, "Thank you"),
    el("p", {}, `All ${state.total} answers are stored. You can close this page.`), ...comment];
}

export const stranded = waiting => [
  el("p", { className: "kicker" }, "No connection"), el("h1", {}, "Waiting for the server"),
  el("p", {}, waiting ? `${waiting} of your answers ${waiting === 1 ? "is" : "are"} kept in this browser and will be sent as soon as the connection is back. Please leave this page open.` : "The page goes on as soon as the connection is back."),
];

export const outside = (detail, waiting) => [
  el("p", { className: "kicker" }, "No entry"), el("h1", {}, "Please open your personal link again"),
  el("p", {}, detail), waiting ? el("p", {}, `${waiting} of your answers ${waiting === 1 ? "is" : "are"} kept in this browser, and will be sent after that.`) : null,
];

export function keyTable(rows) {
  return el("table", { className: "keytable" }, el("tbody", {}, ...rows.map(([keys, what]) =>
    el("tr", {}, el("td", {}, ...keys.map(key => el("kbd", {}, key))), el("td", {}, what)))));
}
