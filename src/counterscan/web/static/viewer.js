// The viewer: which page is shown, and the keys that belong to none.
import { CasePage } from "./viewer_case.js";
import { Gallery } from "./viewer_gallery.js";
import { at, askJson, make } from "./viewer_kit.js";
import { UploadPage } from "./viewer_upload.js";

const KEYS = [
  ["←  →", "previous and next case (arrows move in the gallery)"], ["Enter", "open the case"], ["Esc", "back to the gallery"],
  ["/", "search"], ["p", "panels beside each other"], ["s", "swipe between image and counterfactual"], ["b", "blink between them"],
  ["m", "next method; after the last, all side by side"], ["o", "outlines of mask and truth"], ["x", "pixels as they are, or smooth"],
  ["+  −", "zoom"], ["0", "whole picture, whole window"], ["[  ]", "previous and next slice"], [",  .", "previous and next frame of the path"],
  ["Space", "play the path; in blink mode change by hand"], ["?", "this help"],
  ["wheel, pinch", "zoom; in a volume the wheel goes through slices, Ctrl and wheel zooms"], ["drag", "move; unzoomed, a sideways swipe changes the case"],
  ["right drag", "window (sideways) and level (up and down); Shift and drag too"], ["double click", "whole picture"],
];

const archive = await begin();
if (archive) start(archive);

async function begin() {
  try { return await askJson("/api/archive"); }
  catch (error) { at("main").replaceChildren(make("p", { class: "message", role: "alert" }, error.message)); return null; }
}

function start(archive) {
  const gallery = new Gallery(archive), cases = new CasePage(archive, gallery);
  const upload = archive.upload ? new UploadPage(archive) : null;
  at("to-upload").hidden = !upload;
  at("keys").replaceChildren(...KEYS.map(([key, what]) => make("div", {}, make("span", {}, ...key.split("  ").map(one => make("kbd", {}, one))), make("span", {}, what))));
  const pages = { gallery, case: cases, upload };
  let shown = "";

  function route() {
    const [where, query] = location.hash.replace(/^#\/?/, "").split("?");
    const [page, ...parts] = where.split("/").map(decodeURIComponent);
    const name = page === "case" && parts.length === 2 ? "case" : page === "upload" && upload ? "upload" : "gallery";
    if (name === "gallery" && !archive.runs.length && upload) return void (location.hash = "#/upload");
    for (const id of ["gallery", "case", "upload"]) at(id).hidden = id !== name;
    at("to-gallery").toggleAttribute("aria-current", name === "gallery");
    at("to-upload").toggleAttribute("aria-current", name === "upload");
    at("to-gallery").hidden = !archive.runs.length;
    if (shown === "case" && name !== "case") cases.leave();
    shown = name;
    at("where").replaceChildren();
    pages[name].show(new URLSearchParams(query || ""), ...parts);
  }

  const help = at("help");
  const open = () => help.open ? help.close() : help.showModal();
  at("help-button").addEventListener("click", open);
  help.querySelector(".close").addEventListener("click", () => help.close());
  help.addEventListener("click", event => { if (event.target === help) help.close(); });
  addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input:not([type=range]), select, textarea");
    if (event.key === "?" && !typing) return open();
    if (help.open || (typing && event.key !== "Escape")) return;
    if (pages[shown].key?.(event)) event.preventDefault();
  });
  addEventListener("hashchange", route);
  route();
}
