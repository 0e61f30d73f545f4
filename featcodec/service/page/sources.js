/** The cards of the sources. */

import { drawBoxes, drawHistory } from "./drawing.js";
import * as format from "./format.js";

const MAX_SOURCES = 32;
const SPAN = 60;
const LATE = 3;
const STRAY = 1;
const FAREWELL = 6_000;
const NUMBERS_EVERY = 500;
const LISTS_EVERY = 2_000;

const grid = document.getElementById("sources");
const template = document.getElementById("card");
const seconds = () => performance.now() / 1000;

/** One source: what is known of it, and its card. */
class Source {
  frame = null;
  received = 0;
  history = [];
  seen = null;
  gone = false;
  left = 0;
  #find;
  #listed = 0;
  #numbered = 0;
  #dirty = true;

  constructor(name, number) {
    this.name = name;
    this.card = template.content.cloneNode(true).firstElementChild;
    this.#find = (selector) => this.card.querySelector(selector);
    const title = this.#find(".name");
    title.id = `source-${number}`;
    title.textContent = name;
    this.card.setAttribute("aria-labelledby", title.id);
    this.#find(".intercepted").alt = `What an attacker reconstructs from the stream of ${name}`;
    this.#find(".nothing").textContent = "No reconstruction yet";
  }

  show(frame) {
    if (!this.frame || this.frame.width !== frame.width || this.frame.height !== frame.height) {
      const ratio = Math.min(Math.max(frame.width / frame.height, 0.5), 3);
      for (const ground of this.card.querySelectorAll(".ground")) ground.style.aspectRatio = String(ratio);
    }
    this.frame = frame;
    this.received = seconds();
    this.history.push([this.received, frame.bitsPerSecond]);
    while (this.history[0][0] < this.received - SPAN) this.history.shift();
    this.#dirty = true;
  }

  intercepted({ frame, address }) {
    const image = this.#find(".intercepted");
    image.src = address;
    image.hidden = false;
    this.#find(".nothing").hidden = true;
    this.seen = frame;
  }

  withoutAttacker() {
    this.#find(".nothing").textContent =
      "No attacker comes with these networks. That does not mean that there is nothing to see.";
  }

  isLive(now) {
    return this.frame !== null && !this.gone && now - this.received <= LATE;
  }

  found(score) {
    return this.frame ? this.frame.detections.filter((each) => each.score >= score) : [];
  }

  redraw() {
    this.#dirty = true;
    this.#listed = this.#numbered = 0;
  }

  /** Draw what changed. Numbers change twice a second and words every two: nobody reads faster. */
  update(score, now) {
    const { frame } = this;
    if (!frame) return;
    const milliseconds = now * 1000;
    if (this.#dirty) {
      drawBoxes(this.#find(".boxes"), frame, this.found(score));
      this.#dirty = false;
    }
    if (milliseconds - this.#numbered >= NUMBERS_EVERY) {
      this.#numbered = milliseconds;
      this.#numbers(frame, now);
    }
    if (milliseconds - this.#listed >= LISTS_EVERY) {
      this.#listed = milliseconds;
      const summary = format.summary(this.found(score)) || "No objects";
      this.#find(".list").textContent = summary;
      this.#find(".boxes").setAttribute("aria-label", summary);
    }
  }

  #numbers(frame, now) {
    const late = now - this.received;
    this.#find(".bits").textContent = format.bitRate(frame.bitsPerSecond);
    this.#find(".fps").textContent = format.oneDigit(frame.framesPerSecond);
    this.#find(".latency").textContent = format.milliseconds(frame.latency);
    this.#find(".qp").textContent = format.count(frame.qp);
    this.#find(".bytes").textContent = format.size(frame.bytes);
    this.#find(".refused").hidden = frame.refused === 0;
    this.#find(".refusals").textContent = format.count(frame.refused);
    this.card.classList.toggle("late", !this.gone && late > LATE);
    this.#find(".fresh").textContent = this.gone
      ? "Disconnected"
      : late > LATE
        ? `No frame for ${format.count(late)} s`
        : "Live";
    if (this.seen !== null) {
      this.#find(".when").textContent = `From frame ${format.count(this.seen)}; the boxes are from frame ${format.count(frame.frame)}`;
    }
    drawHistory(this.#find(".history"), this.history, now, SPAN);
  }

  leave() {
    this.gone = true;
    this.left = seconds();
    this.card.classList.add("gone");
    this.redraw();
  }
}

/** All sources. `onChange(total)` is called after each change of the cards; `onNews(text)` says who came and went. */
export class Sources {
  score = 0.4;
  attacker = true;
  #sources = new Map();
  #number = 0;
  #onChange;
  #onNews;

  constructor(onChange, onNews) {
    this.#onChange = onChange;
    this.#onNews = onNews;
    const resized = new ResizeObserver(() => this.redraw());
    resized.observe(grid);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  frame(message) {
    const source = this.#source(message.source);
    source?.show(message);
  }

  /** A reconstruction. It takes a while, so its source may have gone; then it brings no card back. */
  interceptor(message) {
    const source = this.#sources.get(message.source);
    if (source && !source.gone) source.intercepted(message);
  }

  /** A source has gone: its card stays for a moment, so that one sees which it was. */
  gone(name) {
    const source = this.#sources.get(name);
    if (!source || source.gone) return;
    source.leave();
    this.#onNews(`${name} has disconnected`);
    setTimeout(() => this.#sources.get(name) === source && source.gone && this.#remove(source), FAREWELL);
  }

  /** The connection to the server is new: what was there before may not be there any more. */
  clear() {
    for (const source of [...this.#sources.values()]) this.#remove(source);
  }

  redraw() {
    for (const source of this.#sources.values()) source.redraw();
  }

  /** Draw what changed since the last call. */
  update() {
    const now = seconds();
    for (const source of this.#sources.values()) source.update(this.score, now);
  }

  /** What all sources together send and show now. */
  totals() {
    const now = seconds();
    const live = [...this.#sources.values()].filter((source) => source.isLive(now));
    return {
      sources: live.length,
      bits: live.reduce((sum, source) => sum + source.frame.bitsPerSecond, 0),
      found: live.reduce((sum, source) => sum + source.found(this.score).length, 0),
    };
  }

  #source(name) {
    const known = this.#sources.get(name);
    if (known && !known.gone) return known;
    if (known && seconds() - known.left < STRAY) return null; // a frame that was still in work
    if (known) this.#remove(known);
    if (this.#sources.size >= MAX_SOURCES) return null;
    const source = new Source(name, this.#number++);
    if (!this.attacker) source.withoutAttacker();
    this.#sources.set(name, source);
    const names = [...this.#sources.keys()].sort();
    const next = this.#sources.get(names[names.indexOf(name) + 1]);
    grid.insertBefore(source.card, next?.card ?? null);
    this.#changed();
    this.#onNews(`${name} is connected`);
    return source;
  }

  #remove(source) {
    source.card.remove();
    this.#sources.delete(source.name);
    this.#changed();
  }

  #changed() {
    grid.dataset.count = String(this.#sources.size);
    this.#onChange(this.#sources.size);
  }
}
