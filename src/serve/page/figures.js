// What the service does at the moment: its state, and figures with what they were in the last two minutes.

import { find, make } from "./dom.js";
import { request, requestWithKey } from "./client.js";
import * as store from "./store.js";

const PERIOD = 2000;
const SAMPLES = 60;
const SVG = "http://www.w3.org/2000/svg";

const percent = (share) => `${(100 * share).toFixed(1)} %`;

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const unit = Math.min(Math.floor(Math.log2(Math.max(count, 1)) / 10), units.length - 1);
  return `${(count / 1024 ** unit).toFixed(unit && 1)} ${units[unit]}`;
}

/** A row: a name, the latest value, and a line of those before. */
class Figure {
  #values = [];
  #term;
  #value = make("span");
  #line = document.createElementNS(SVG, "polyline");

  constructor(name, show, most) {
    Object.assign(this, { show, most });
    const plot = document.createElementNS(SVG, "svg");
    plot.setAttribute("viewBox", `0 0 ${SAMPLES - 1} 20`);
    plot.setAttribute("preserveAspectRatio", "none");
    plot.setAttribute("aria-hidden", "true");
    plot.append(this.#line);
    this.#term = make("div", {}, make("dt", {}, name), make("dd", {}, this.#value, plot));
    this.#term.hidden = true;
    find("figures").append(this.#term);
  }

  /** One more value; nothing where there is none at the moment. */
  add(value) {
    this.#values = [...this.#values, value].slice(-SAMPLES);
    const known = this.#values.filter(Number.isFinite);
    if (!known.length) return;
    this.#term.hidden = false;
    this.#value.textContent = this.show(known.at(-1));
    const most = this.most ?? Math.max(...known, 1e-9);
    const first = SAMPLES - this.#values.length;
    const points = this.#values.map((y, i) => Number.isFinite(y) && `${first + i},${19 - (18 * y) / most}`);
    this.#line.setAttribute("points", points.filter(Boolean).join(" "));
  }
}

const speed = new Figure("Last answers", (value) => `${value.toFixed(1)} tokens/s`);
const memory = new Figure("Memory", bytes);
const hits = new Figure("Experts found in memory", percent, 1);
const reading = new Figure("Read", (value) => `${bytes(value)}/s`);
const requests = new Figure("Requests", (value) => `${value} in all`);

/** The speed of an answer. */
export const addSpeed = (tokensPerSecond) => speed.add(tokensPerSecond);

function parse(text) {
  const lines = text.split("\n").filter((line) => line && !line.startsWith("#"));
  return Object.fromEntries(lines.map((line) => {
    const [name, value] = line.split(" ");
    return [name.replace(/^wick_/, ""), Number(value)];
  }));
}

let last = null;

function sample(text) {
  const now = { ...parse(text), time: performance.now() };
  memory.add(now.resident_bytes || NaN);
  requests.show = (all) => `${all - now.queued_requests} running, ${now.queued_requests} waiting`;
  requests.add(now.running_requests + now.queued_requests);
  // Nothing is wanted of experts where all of them are in memory.
  if (now.experts_wanted) {
    const since = (name) => (last ? now[name] - last[name] : NaN);
    hits.add(since("experts_wanted") > 0 ? since("experts_resident") / since("experts_wanted") : NaN);
    reading.add(Math.max(since("read_bytes"), 0) / ((now.time - last?.time) / 1000));
  }
  last = now;
}

let facts = null;

function showState(state, title = "") {
  Object.assign(find("state"), { className: state.replaceAll(" ", "-"), title });
  // Said again, it would be read out again.
  if (find("state").textContent !== state) find("state").textContent = state;
}

async function look() {
  const answer = await fetch("health", { cache: "no-store" }).then((response) => response.json());
  showState(answer.status === "ok" ? "ready" : answer.status, answer.reason);
  if (answer.status !== "ok") return;
  facts ??= await requestFacts();
  sample(await (await request("metrics")).text());
}

async function requestFacts() {
  const found = await (await requestWithKey("v1/wick")).json();
  const experts = found.streams_experts ? "experts read as they are wanted" : "all in memory";
  find("model").textContent = found.name || found.model;
  find("model").title = `${found.model}: ${found.quantization}, ${found.kernels}, `
    + `${found.threads} threads, context of ${found.context} tokens, ${experts}, wick ${found.version}`;
  return found;
}

let isLooking = false;
/** The key, or the lack of one, with which the service refused to tell anything. */
let refused;

/** Looks now, unless nobody sees it or the key is still the wrong one. */
async function turn() {
  if (isLooking || refused === store.key() || document.hidden) return;
  isLooking = true;
  try {
    await look();
    find("enter-key").hidden = true;
  } catch (error) {
    const isRefused = error.status === 401;
    if (isRefused) refused = store.key();
    find("enter-key").hidden = !isRefused;
    showState(isRefused ? "no key" : "not reached", error.message);
  } finally {
    isLooking = false;
  }
}

/** Looks every two seconds from now on. */
export function watch() {
  turn();
  setInterval(turn, PERIOD);
  document.addEventListener("visibilitychange", turn);
}
