/** A picture of the visitor: both halves run in the server. */

import { drawBoxes } from "./drawing.js";
import * as format from "./format.js";
import { readPicture, refusal } from "./messages.js";
import { askForToken, authorization } from "./token.js";

const get = (id) => document.getElementById(id);
const KINDS = ["image/jpeg", "image/png", "image/webp"];

/** The drop zone, the QP and the result. */
export class Picture {
  #score;
  #file = null;
  #shown = null;
  #address = "";
  #running = null;
  #waiting = false;

  /** `score()` returns the least score of boxes. */
  constructor(score) {
    this.#score = score;
    const input = get("file");
    input.addEventListener("change", () => {
      if (input.files.length) this.take(input.files[0]);
      input.value = ""; // so that the same file can be chosen again
    });
    this.#listenForDrops();
    get("qp").addEventListener("input", () => (get("qp-value").textContent = get("qp").value));
    get("qp").addEventListener("change", () => this.#file && this.send());
    new ResizeObserver(() => this.redraw()).observe(get("result-ground"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  /** Take a file, and send it. */
  take(file) {
    if (!KINDS.includes(file.type)) {
      this.#fail(`${file.name} is not a JPEG, PNG or WebP picture. Choose another file.`);
      return;
    }
    this.#file = file;
    this.send();
  }

  /** Send the picture that waits for a token or for the server, if one does. */
  resume() {
    if (this.#waiting) this.send();
  }

  async send() {
    const file = this.#file;
    this.#running?.abort();
    const running = new AbortController();
    this.#running = running;
    this.#waiting = false;
    this.#fail("");
    get("picture-status").textContent = `Sending ${file.name} …`;
    get("result").setAttribute("aria-busy", "true");
    try {
      const response = await fetch(`v1/picture?qp=${get("qp").value}`, {
        method: "POST",
        body: file,
        headers: { "Content-Type": file.type, ...authorization() },
        signal: running.signal,
      });
      await this.#answered(file, response);
    } catch (error) {
      if (running.signal.aborted) return;
      this.#waiting = error instanceof TypeError;
      this.#fail(this.#waiting ? "The server cannot be reached. The picture is sent when it is back." : error.message);
    } finally {
      if (this.#running === running) {
        this.#running = null;
        get("result").removeAttribute("aria-busy");
        if (get("picture-status").textContent.startsWith("Sending")) get("picture-status").textContent = "";
      }
    }
  }

  async #answered(file, response) {
    if (response.status === 401) {
      this.#waiting = true;
      askForToken();
      this.#fail("The server asks for a token.");
      return;
    }
    if (!response.ok) {
      this.#fail(`${file.name}: ${await refusal(response)}`);
      return;
    }
    const answer = readPicture(await response.json().catch(() => null));
    if (!answer) throw new Error("What came is not an answer of a featcodec server.");
    await this.#show(file, answer);
  }

  async #show(file, answer) {
    const address = URL.createObjectURL(file);
    const original = get("original");
    original.src = address;
    await original.decode().catch(() => {});
    URL.revokeObjectURL(this.#address);
    this.#address = address;
    this.#shown = answer;
    get("result").hidden = false;
    for (const ground of [get("result-ground"), get("result-seen")]) {
      ground.style.aspectRatio = String(Math.min(Math.max(answer.width / answer.height, 0.3), 4));
    }
    get("reconstruction").hidden = !answer.reconstruction;
    get("result-nothing").hidden = Boolean(answer.reconstruction);
    if (answer.reconstruction) get("reconstruction").src = answer.reconstruction;
    get("result-attacker").textContent = answer.reconstruction ? `Reconstructed from the bitstream alone${answer.attacker ? ` by ${answer.attacker}` : ""}` : "";
    this.#sizes(answer);
    this.redraw();
    const found = this.#found();
    get("picture-status").textContent = `${file.name} at QP ${answer.qp}: ${format.objects(found.length)}, encoded in ${format.milliseconds(answer.encode)} and decoded in ${format.milliseconds(answer.decode)}`;
  }

  #sizes({ bytes, pictureBytes }) {
    const most = Math.max(bytes, pictureBytes, 1);
    get("file-size").textContent = format.size(pictureBytes);
    get("stream-size").textContent = format.size(bytes);
    get("file-bar").style.inlineSize = `${(100 * pictureBytes) / most}%`;
    get("stream-bar").style.inlineSize = `${(100 * bytes) / most}%`;
    const times = pictureBytes / Math.max(bytes, 1);
    get("ratio").textContent =
      times >= 1.05 ? `The stream is ${format.oneDigit(times)} times smaller than the picture file.` : "The stream is not smaller than this picture file. A higher QP makes it smaller.";
  }

  #found() {
    return this.#shown ? this.#shown.detections.filter((each) => each.score >= this.#score()) : [];
  }

  redraw() {
    if (!this.#shown) return;
    const found = this.#found();
    const summary = format.summary(found) || "No objects";
    drawBoxes(get("result-boxes"), this.#shown, found, { filled: false });
    get("result-list").textContent = summary;
    get("result-boxes").setAttribute("aria-label", summary);
  }

  #fail(text) {
    get("picture-error").textContent = text;
    if (text) get("picture-status").textContent = "";
  }

  #listenForDrops() {
    let depth = 0;
    const mark = (over) => get("drop").classList.toggle("over", over);
    const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragenter", (event) => holdsFiles(event) && mark(++depth > 0));
    addEventListener("dragleave", (event) => holdsFiles(event) && mark((depth = Math.max(0, depth - 1)) > 0));
    addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault(); // else the browser would leave this page for the picture
      mark((depth = 0) > 0);
      if (event.dataTransfer.files.length) {
        this.take(event.dataTransfer.files[0]);
        get("picture-title").scrollIntoView({ block: "start" });
      }
    });
  }
}
