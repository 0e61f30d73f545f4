/** Joins the connection, the cards of the sources, the token and the picture. */

import { Connection } from "./connection.js";
import * as format from "./format.js";
import { Picture } from "./picture.js";
import { Sources } from "./sources.js";
import { askForToken, closeForm, onToken } from "./token.js";

const TOTALS_EVERY = 500;
const STATES = {
  connecting: "Connecting to the server",
  open: "Connected",
  gone: "The server is gone",
  full: "The server is busy",
  token: "The server asks for a token",
  paused: "Paused",
};

const get = (id) => document.getElementById(id);
const write = (element, text) => element.textContent !== text && (element.textContent = text);

const sources = new Sources(showOrHideCards, (text) => (get("news").textContent = text));
const picture = new Picture(() => sources.score);
const connection = new Connection(receive, showState);
let state = "connecting";
let wasLost = false;

function receive(message) {
  if (message.type === "hello") greet(message);
  else if (message.type === "frame") sources.frame(message);
  else if (message.type === "interceptor") sources.interceptor(message);
  else sources.gone(message.source);
}

function greet({ detector, attacker, token }) {
  sources.clear();
  closeForm(token);
  get("detector").textContent = detector;
  writeCommand(detector);
  get("command-token").hidden = !token;
  get("attacker").textContent = attacker ? `the attacker ${attacker}, which comes with these networks` : "an attacker, if one comes with the networks (here, none does)";
  sources.attacker = Boolean(attacker);
  picture.resume();
}

/** Say how a camera is connected. The name comes from the server: people will copy the command into a shell. */
function writeCommand(detector) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const server = `${scheme}://${location.host}${location.pathname.replace(/\/$/, "")}`;
  const networks = /^\w[\w.-]*$/.test(detector) ? ` --detector ${detector}` : "";
  get("command").textContent = `featcodec stream VIDEO --to ${server}${networks}`;
}

/** Say in which state the connection is. While it tries again and again, nothing new is said. */
function showState(next) {
  if (next === "token") askForToken();
  if (next === "gone" || next === "full") wasLost = true;
  if (next === "open" || next === "token") wasLost = false;
  state = next === "connecting" && wasLost ? state : next;
  get("state").dataset.state = state;
  write(get("state-text"), STATES[state]);
  get("gone").hidden = !wasLost;
  const why =
    state === "full"
      ? "Too many pages watch this server already. This page tries again by itself."
      : "The connection to the server is lost, or it has ended. What you see below is old. This page tries again by itself.";
  write(get("gone-text"), why);
  get("live").classList.toggle("old", wasLost || state === "token" || state === "paused");
}

function showOrHideCards(total) {
  get("empty").hidden = total > 0;
  get("sources-title").textContent = total > 1 ? `${total} cameras` : total ? "One camera" : "No camera is connected";
}

function showTotals() {
  const { sources: live, bits, found } = sources.totals();
  write(get("this-stream"), live > 1 ? `these ${live} streams` : "this stream");
  const missing = wasLost ? "now" : "yet";
  write(get("total-rate"), live ? format.bitRate(bits) : `nothing ${missing}`);
  write(get("total-found"), live ? format.objects(found) : `none ${missing}`);
}

function draw() {
  sources.update();
  requestAnimationFrame(draw);
}

get("score").addEventListener("input", () => {
  sources.score = Number(get("score").value);
  get("score-value").textContent = format.twoDigits(sources.score);
  sources.redraw();
  picture.redraw();
});
get("retry").addEventListener("click", () => connection.open());
onToken(() => connection.open());

setInterval(showTotals, TOTALS_EVERY);
requestAnimationFrame(draw);
connection.open();
