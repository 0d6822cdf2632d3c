// What the service is asked.

import { find } from "./dom.js";
import * as store from "./store.js";

/** What went wrong, in the service's words where it has said any. */
export class ServiceError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Asks, with the key if there is one. */
export async function request(path, options = {}) {
  const key = store.key();
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServiceError("The service cannot be reached.");
  }
  if (response.ok) return response;
  throw new ServiceError(await reason(response), response.status);
}

async function reason(response) {
  const body = await response.json().catch(() => null);
  return body?.error?.message ?? body?.reason ?? `The service answered ${response.status}.`;
}

/** Asks, and asks the person for a key where one is needed. */
export async function requestWithKey(path, options) {
  for (;;) {
    try {
      return await request(path, options);
    } catch (error) {
      if (error.status !== 401 || !(await askForKey(error.message))) throw error;
    }
  }
}

let asking = null;

/** Shows the dialog for the key, once for all who ask meanwhile; whether there is one then. */
export function askForKey(why) {
  asking ??= showKeyDialog(why).finally(() => { asking = null; });
  return asking;
}

function showKeyDialog(why) {
  const dialog = find("key");
  const form = dialog.querySelector("form");
  find("key-reason").textContent = why;
  form.reset();
  return new Promise((resolve) => {
    let isGiven = false;
    form.onsubmit = (event) => {
      event.preventDefault();
      isGiven = true;
      store.saveKey(form.elements.key.value.trim());
      dialog.close();
    };
    form.querySelector("[value=cancel]").onclick = () => dialog.close();
    dialog.onclose = () => resolve(isGiven);
    dialog.showModal();
  });
}

/** The parts of an answer, as they come. */
export async function* chat(body, signal) {
  const response = await requestWithKey("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  for await (const line of lines(response.body)) {
    if (!line.startsWith("data: ")) continue;
    const data = line.slice("data: ".length);
    if (data === "[DONE]") return;
    const part = JSON.parse(data);
    if (part.error) throw new ServiceError(part.error.message);
    yield part;
  }
  throw new ServiceError("The connection broke off.");
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new ServiceError("The connection broke off.");
    });
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}
