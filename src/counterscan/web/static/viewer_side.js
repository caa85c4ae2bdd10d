// What stands beside the pictures: probabilities, scores, facts and files.
import { make, number, path, spoken } from "./viewer_kit.js";

const NAMES = { figure: "figure", mask: "mask", counterfactual: "counterfactual", heatmap: "heat map", report: "report", strip: "film strip", film: "film", tensors: "all numbers", facts: "all facts" };

export function side(root, facts, loaded) {
  const part = (title, ...children) => make("section", {}, make("h2", {}, title), ...children);
  const bars = loaded.map(({ head, method }) => part(loaded.length > 1 ? method.label : "Probabilities before and after", ...head.answers.map(answer)));
  const scores = Object.entries(facts.numbers).filter(([name]) => !name.startsWith("p_"));
  const known = [["classifier", facts.classifier], ["asked for", facts.target.replaceAll(",", ", ")], ["patient", facts.patient], ["split", facts.split]].filter(([, value]) => value);
  root.replaceChildren(...bars,
    scores.length ? part(loaded.length > 1 ? `Figures of ${facts.label}` : "Figures", table(scores.map(([name, value]) => [spoken(name), number(value)]))) : "",
    part("Case", table(known), make("p", { class: "provenance" }, facts.explainer)),
    part("Files", make("p", { class: "files" }, ...facts.files.map(what => make("a", { href: `/file/${path(facts.run, facts.name, what)}`, download: true }, NAMES[what] || what)))));
}

function answer({ name, before, after, asked }) {
  const bar = (kind, value) => { const part = make("i", { class: kind }); part.style.width = `${100 * value}%`; return part; };
  const told = after === null ? `${before.toFixed(2)}` : `${before.toFixed(2)} → `;
  return make("div", { class: `answer${asked ? " asked" : ""}` }, make("span", { class: "class", title: name }, name),
    make("span", { class: "track", "aria-hidden": "true" }, bar("before", before), after !== null && bar("after", after)),
    make("span", { class: "p" }, told, after !== null && make("b", {}, after.toFixed(2))));
}

function table(rows) {
  return make("table", {}, make("tbody", {}, ...rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)))));
}

