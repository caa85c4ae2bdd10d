// What the viewer's modules share: elements, requests, words and numbers.
export const at = id => document.getElementById(id);

// An element with attributes (on... are listeners) and children; text stays text, whoever wrote it.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

export async function ask(address, options = {}) {
  let answer;
  try { answer = await fetch(address, options); }
  catch { throw new Error("the viewer does not answer; is `counterscan serve` still running?"); }
  if (!answer.ok) throw new Error(await why(answer));
  return answer;
}

async function why(answer) {
  try {
    const { detail } = await answer.json();
    return typeof detail === "string" ? detail : detail.map(one => one.msg).join("; ");
  } catch { return `the viewer answered ${answer.status}`; }
}

export const askJson = async (address, options) => (await ask(address, options)).json();
export const path = (...parts) => parts.map(encodeURIComponent).join("/");

const SHORT = { iou: "IoU", best_iou: "best IoU", dice: "Dice", auprc: "AUPRC", ssim: "SSIM", ms_ssim: "MS-SSIM", l1: "L1", l2: "L2" };
const WHEN = { before: "before", after: "after", scan: "of the written scan" };
export function spoken(name) {
  const probability = name.match(/^p_(before|after|scan)_(.*)$/);
  if (probability) return `P(${probability[2]}) ${WHEN[probability[1]]}`;
  return SHORT[name] || name.replaceAll("_", " ");
}

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  return Math.abs(value) >= 0.095 ? value.toFixed(2) : Number(value.toPrecision(2)).toString();
}

export const badge = state => make("span", { class: `badge ${state.replaceAll(" ", "-")}` }, state);
export const still = matchMedia("(prefers-reduced-motion: reduce)");
