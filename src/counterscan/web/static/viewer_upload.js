// The upload box: a scan, a classifier, what to ask for, a method; then progress, and the case.
import { askJson, at, make, path } from "./viewer_kit.js";

const OFTEN = 700;  // milliseconds between two questions about a job

export class UploadPage {
  constructor(archive) {
    this.archive = archive;
    this.root = at("upload");
    this.file = null;
  }

  async show() {
    document.title = "Explain a scan · counterscan";
    if (this.built) return;
    this.built = true;
    this.root.replaceChildren(make("div", { class: "sheet" }, make("p", { class: "note", role: "status" }, "Looking for classifiers and methods …")));
    try { this.build(await askJson("/api/offers")); }
    catch (error) { this.built = false; this.root.replaceChildren(make("p", { class: "message", role: "alert" }, error.message)); }
  }

  build(offers) {
    const { megabytes, minutes } = this.archive.upload;
    const select = (name, act) => make("select", { id: `up-${name}`, onchange: act });
    this.classifier = select("classifier", () => this.fit());
    this.method = select("method");
    this.target = make("input", { id: "up-target", list: "up-targets", autocomplete: "off", required: true, maxlength: 200, placeholder: "effusion=0" });
    this.targets = make("datalist", { id: "up-targets" });
    this.offers = new Map(offers.map(offer => [offer.name, offer]));
    this.classifier.append(...offers.map(offer => make("option", {}, offer.name)));
    this.picker = make("input", { type: "file", id: "up-file", accept: ".png,.jpg,.jpeg,.tif,.tiff,.dcm,.dicom,.ima,.nii,.gz,image/png,image/jpeg,image/tiff,application/dicom" });
    this.chosen = make("b", {}, "Choose a scan, or drop it here");
    this.drop = make("label", { class: "drop", for: "up-file" }, this.chosen, make("span", {}, `PNG, JPEG, TIFF, DICOM or NIfTI, up to ${megabytes} MB`), this.picker);
    this.go = make("button", { class: "chip go", type: "submit" }, "Explain");
    this.state = make("div", { "aria-live": "polite" });
    const field = (text, control) => make("label", { class: "wide", for: control.id }, text, control);
    const form = make("form", { onsubmit: event => { event.preventDefault(); this.start(); } }, this.drop,
      make("div", { class: "fields" }, field("Classifier", this.classifier), field("What it should have said", this.target), field("Method", this.method)), this.targets, this.go);
    this.root.replaceChildren(make("div", { class: "sheet" }, make("h1", {}, "Explain a scan"),
      make("p", { class: "note" }, `The scan is explained on the machine that runs this viewer, then deleted; the result is kept for ${minutes >= 1 ? `${Math.round(minutes)} minutes` : "a moment"}. Not for diagnosis.`), form, this.state));
    this.picker.addEventListener("change", () => this.take(this.picker.files[0]));
    for (const name of ["dragenter", "dragover"]) this.drop.addEventListener(name, event => { event.preventDefault(); this.drop.classList.add("over"); });
    for (const name of ["dragleave", "drop"]) this.drop.addEventListener(name, event => { event.preventDefault(); this.drop.classList.remove("over"); });
    this.drop.addEventListener("drop", event => this.take(event.dataTransfer.files[0]));
    this.fit();
  }

  fit() {  // the methods and answers that go with a classifier
    const offer = this.offers.get(this.classifier.value);
    if (!offer) return;
    this.method.replaceChildren(...offer.methods.map(name => make("option", {}, name)));
    const texts = [...offer.targets, ...offer.classes.flatMap(name => [`${name}=0`, `${name}=1`])];
    this.targets.replaceChildren(...texts.map(value => make("option", { value })));
    this.target.value = texts[0] || "";
  }

  take(file) {
    if (!file) return;
    this.file = file;
    this.chosen.textContent = `${file.name} (${(file.size / 1048576).toFixed(file.size < 1e6 ? 2 : 1)} MB)`;
  }

  start() {
    const { megabytes } = this.archive.upload;
    if (!this.file) return this.fail("choose a scan first");
    if (this.file.size > megabytes * 1048576) return this.fail(`the file is larger than ${megabytes} MB, which is the limit`);
    const query = new URLSearchParams({ classifier: this.classifier.value, method: this.method.value, target: this.target.value });
    const request = new XMLHttpRequest();  // fetch does not say how much has been sent
    this.job = null;
    this.progress("sending the scan", () => { request.abort(); this.done(); });
    request.open("POST", `/api/jobs?${query}`);
    request.setRequestHeader("X-CSRF-Token", this.archive.token);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = event => this.meter(event.loaded / event.total, "sending the scan");
    request.onload = () => this.sent(request);
    request.onerror = () => this.fail("the viewer does not answer; is it still running?");
    request.send(this.file);
  }

  sent(request) {
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { /* told below */ }
    if (request.status !== 201) return this.fail(typeof answer.detail === "string" ? answer.detail : `the viewer answered ${request.status}`);
    this.job = answer.job;
    this.progress("loading the classifier", () => this.cancel());
    this.follow(answer.job);
  }

  async follow(job) {
    while (this.job === job) {
      let now;
      try { now = await askJson(`/api/jobs/${path(job)}`); } catch (error) { return this.job === job && this.fail(error.message); }
      if (this.job !== job) return;
      if (now.state === "done") { this.done(); location.hash = `#/case/${path(job, now.case)}`; return; }
      if (now.state === "failed" || now.state === "cancelled") return this.fail(now.error || "cancelled");
      this.meter(now.share, `${now.note} · ${Math.round(now.seconds)} s`);
      await new Promise(wake => setTimeout(wake, OFTEN));
    }
  }

  async cancel() {
    const job = this.job;
    this.done();
    if (job) await fetch(`/api/jobs/${path(job)}`, { method: "DELETE", headers: { "X-CSRF-Token": this.archive.token } }).catch(() => {});
    this.state.replaceChildren(make("p", { class: "note" }, "Cancelled; the scan is deleted."));
  }

  progress(text, cancel) {
    this.go.disabled = true;
    this.note = make("span", {}, text);
    this.bar = make("i");
    this.track = make("div", { class: "meter unknown", role: "progressbar", "aria-label": "progress" }, this.bar);
    this.state.replaceChildren(make("div", { class: "progress" }, make("div", { class: "line" }, this.note, make("button", { class: "chip", type: "button", onclick: cancel }, "Cancel")), this.track));
  }

  meter(share, text) {
    const known = typeof share === "number" && isFinite(share);
    this.note.textContent = text;
    this.track.classList.toggle("unknown", !known);
    this.bar.style.width = known ? `${100 * share}%` : "";
    if (known) this.track.setAttribute("aria-valuenow", Math.round(100 * share)); else this.track.removeAttribute("aria-valuenow");
  }

  done() { this.job = null; this.go.disabled = false; this.state.replaceChildren(); }
  fail(text) { this.done(); this.state.replaceChildren(make("p", { class: "bad", role: "alert" }, text)); }
}
