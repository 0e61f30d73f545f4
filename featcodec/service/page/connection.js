/** The WebSocket to the server: it comes back by itself, later each time, and says what state it is in. */

import { readMessage } from "./messages.js";
import { subprotocols } from "./token.js";

const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
const HIDDEN_PATIENCE = 30_000;
const WRONG_TOKEN = 1008;
const TRY_LATER = 1013;

const address = () => {
  const url = new URL("v1/live", document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.hash = url.search = "";
  return url.href;
};

/**
 * Keep a connection.
 *
 * `onMessage` gets checked messages. `onState` gets "connecting", "open", "gone" (it was there, or cannot be reached),
 * "full" (too many pages watch), "token" (the server asks for one) or "paused" (nobody looks at this tab).
 */
export class Connection {
  #socket = null;
  #wait = FIRST_WAIT;
  #timer = 0;
  #onMessage;
  #onState;

  constructor(onMessage, onState) {
    this.#onMessage = onMessage;
    this.#onState = onState;
    // A page that nobody sees must not keep the server's attacker at work.
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.#timer);
      if (!document.hidden) this.#socket ?? this.open();
      else this.#timer = setTimeout(() => this.#pause(), HIDDEN_PATIENCE);
    });
    addEventListener("online", () => this.#socket ?? this.open());
  }

  /** Connect now. */
  open() {
    clearTimeout(this.#timer);
    this.#leave();
    this.#onState("connecting");
    const socket = new WebSocket(address(), subprotocols());
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      if (socket !== this.#socket) return;
      const message = typeof data === "string" ? readMessage(data) : null;
      if (message?.type === "hello") {
        this.#wait = FIRST_WAIT;
        this.#onState("open");
      }
      if (message) this.#onMessage(message);
    });
    socket.addEventListener("close", ({ code }) => {
      if (socket === this.#socket) this.#closed(code);
    });
  }

  #closed(code) {
    this.#socket = null;
    if (code === WRONG_TOKEN) {
      this.#onState("token");
      return;
    }
    this.#onState(code === TRY_LATER ? "full" : "gone");
    this.#timer = setTimeout(() => this.open(), this.#wait * (0.75 + Math.random() / 2));
    this.#wait = Math.min(2 * this.#wait, LONGEST_WAIT);
  }

  #pause() {
    this.#leave();
    this.#onState("paused");
  }

  #leave() {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }
}
