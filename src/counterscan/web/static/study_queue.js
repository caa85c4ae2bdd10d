"use strict";
// Answers on their way: kept in the browser until the server says that they are stored, in order, each under one nonce.

const FIRST = 1000, LONGEST = 15000;  // ms before sending again

export const random = () => [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, "0")).join("");

export class Lost extends Error {}      // no answer from the server: try again
export class Refused extends Error {    // an answer that says no
  constructor(status, detail) { super(detail); this.status = status; }
}

export async function ask(path, { key = "", body } = {}) {
  let response, content;
  try {
    response = await fetch(path, body === undefined ? { cache: "no-store" } : {
      method: "POST", cache: "no-store", body: JSON.stringify(body),
      headers: { "content-type": "application/json", "x-study-key": key },
    });
    if (response.status >= 500) throw new Lost(`status ${response.status}`);
    content = response.headers.get("content-type")?.startsWith("image/") ? await response.blob() : await response.json();
  } catch (error) { throw error instanceof Lost ? error : new Lost(String(error)); }
  if (!response.ok) throw new Refused(response.status, content.detail ?? "refused");
  return content;
}

export class Kept {  // a value in the browser's storage, or in memory where there is none
  constructor(name, empty) { this.name = name; this.empty = empty; }
  get value() {
    try { return JSON.parse(localStorage.getItem(this.name)) ?? this.memory ?? this.empty; } catch { return this.memory ?? this.empty; }
  }
  set value(value) {
    this.memory = value;
    try { localStorage.setItem(this.name, JSON.stringify(value)); } catch { /* memory has it */ }
  }
}

export class Queue {
  // deliver(answer) -> the server's word; onStored(answer, word), onRefused(answer, error), onChange()
  constructor(name, { deliver, onStored, onRefused, onChange }) {
    Object.assign(this, { deliver, onStored, onRefused, onChange });
    this.kept = new Kept(name, []);
    this.wait = FIRST; this.lost = false; this.sending = false;
    window.addEventListener("online", () => this.soon());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.soon(); });
  }
  get waiting() { return this.kept.value; }
  add(answer) { this.kept.value = [...this.waiting, answer]; this.onChange(); this.send(); }
  soon() { this.wait = FIRST; clearTimeout(this.timer); this.send(); }
  drop(answer) { this.kept.value = this.waiting.filter(one => one.nonce !== answer.nonce); }

  async send() {
    if (this.sending) return;
    this.sending = true;
    try {
      while (this.waiting.length) await this.one(this.waiting[0]);
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      this.lost = true;
      this.timer = setTimeout(() => this.send(), this.wait);
      this.wait = Math.min(LONGEST, this.wait * 2);
    } finally { this.sending = false; this.onChange(); }
  }

  async one(answer) {
    let word;
    try { word = await this.deliver(answer); } catch (error) {
      if (error instanceof Lost) throw error;
      this.lost = false;
      if (error.status === 401) { this.onRefused(answer, error); throw new Lost("no session"); }  // kept for the next visit
      this.drop(answer);
      return this.onRefused(answer, error);
    }
    this.lost = false; this.wait = FIRST;
    this.drop(answer);
    this.onStored(answer, word);
  }
}
