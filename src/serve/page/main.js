// The page: what is pressed, and what comes of it.

import { askForKey, chat } from "./client.js";
import { find } from "./dom.js";
import * as figures from "./figures.js";
import * as store from "./store.js";
import * as view from "./view.js";

const text = find("text");

/** The conversation that is seen. */
let current = store.conversations()[0] ?? store.newConversation();
/** The answer that is being written: its conversation, its message, and what stops it. */
let active = null;

function showAll() {
  view.show(current, active ? null : retry);
  showList();
}

function showList() {
  document.title = current.title ? `${current.title} – wick` : "wick";
  view.list(store.conversations(), current, { open, rename, remove });
}

function showActive() {
  find("send").hidden = Boolean(active);
  find("stop").hidden = !active;
  if (active?.conversation === current) view.update(active.message);
}

/** Keeps a conversation, and says where the browser has no room for it. */
function save(conversation) {
  find("notice").hidden = true;
  try {
    store.save(conversation);
  } catch {
    find("notice").textContent = "The browser has no room left: this is not kept. Delete some conversations.";
    find("notice").hidden = false;
  }
}

function open(conversation) {
  // An answer goes on being written into the conversation that it is for.
  current = active?.conversation.id === conversation.id ? active.conversation : conversation;
  showMenu(false);
  showAll();
  text.focus();
}

function rename(conversation, title) {
  const renamed = conversation.id === current.id ? current : conversation;
  renamed.title = title;
  save(renamed);
  showList();
}

function remove(conversation) {
  if (!confirm(`Delete “${conversation.title}”?`)) return;
  if (active?.conversation.id === conversation.id) stop();
  store.remove(conversation);
  open(store.conversations()[0] ?? store.newConversation());
}

/** Messages as the service takes them. A question whose answer has failed before its first word is left out. */
function messages({ messages: all }, system) {
  const isLost = (message) => message?.role === "assistant" && !message.content;
  const kept = all.filter((message, i) => !isLost(message) && !isLost(all[i + 1]));
  const plain = kept.map(({ role, content }) => ({ role, content }));
  return system ? [{ role: "system", content: system }, ...plain] : plain;
}

function send() {
  if (active || !text.value.trim()) return;
  current.messages.push({ role: "user", content: text.value });
  current.title ||= text.value.trim().split("\n")[0].slice(0, 60);
  text.value = "";
  fit();
  answer();
}

/** Asks once more for the last answer. */
function retry() {
  if (active) return;
  if (current.messages.at(-1)?.role === "assistant") current.messages.pop();
  answer();
  text.focus();
}

/** What is asked of the service. */
function body(conversation) {
  const { system, ...sampling } = store.settings();
  return {
    ...sampling,
    messages: messages(conversation, system),
    stream: true,
    stream_options: { include_usage: true, include_progress: true },
  };
}

async function answer() {
  const conversation = current;
  const asked = body(conversation);
  const message = { role: "assistant", content: "", isOpen: true };
  conversation.messages.push(message);
  conversation.changed = Date.now();
  active = { conversation, message, controller: new AbortController() };
  // Kept without the answer's marks of being written, so that a page that is closed meanwhile leaves none.
  save({ ...conversation, messages: conversation.messages.slice(0, -1) });
  showAll();
  view.announceAnew();
  showActive();
  try {
    await receive(chat(asked, active.controller.signal), message);
  } catch (error) {
    if (error.name === "AbortError") message.note = "Stopped.";
    else message.error = error.message;
  }
  end(conversation, message);
}

async function receive(parts, message) {
  let first = 0, latest = 0, frame = 0;
  const draw = () => { frame = 0; showActive(); view.announce(message); };
  try {
    for await (const { progress, choices, usage } of parts) {
      if (progress) message.progress = progress;
      const [choice] = choices;
      if (choice?.delta.content) {
        latest = performance.now();
        first ||= latest;
        delete message.progress;
        message.content += choice.delta.content;
      }
      if (choice?.finish_reason === "length") message.isCutOff = true;
      if (usage) tell(message, usage, (latest - first) / 1000);
      frame ||= requestAnimationFrame(draw);
    }
  } finally {
    cancelAnimationFrame(frame);
  }
}

/** Notes what an answer took. */
function tell(message, usage, seconds) {
  const { prompt_tokens: prompt, completion_tokens: drawn, prompt_tokens_details: details } = usage;
  const parts = [`${drawn} tokens`, `prompt of ${prompt}, ${details.cached_tokens} of them cached`];
  if (drawn > 1 && seconds > 0) {
    const speed = (drawn - 1) / seconds;
    parts.splice(1, 0, `${speed.toFixed(1)} tokens/s`);
    figures.addSpeed(speed);
  }
  if (message.isCutOff) parts.push("cut off where tokens or context end");
  message.note = parts.join(" · ");
}

function end(conversation, message) {
  delete message.isOpen;
  delete message.progress;
  const isKept = store.conversations().some(({ id }) => id === conversation.id);
  if (isKept || conversation === current) save(conversation);
  active = null;
  showActive();
  if (conversation === current) view.update(message, retry);
  else showAll();
  view.announce(message);
  showList();
}

const stop = () => active?.controller.abort();

/** Makes the field as high as its text. */
function fit() {
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight + 2, innerHeight / 3)}px`;
}

function showMenu(isOpen) {
  document.body.classList.toggle("menu", isOpen);
  find("menu").setAttribute("aria-expanded", String(isOpen));
}

const settings = find("settings");
const fields = settings.querySelector("form");

function showSettings() {
  const values = store.settings();
  for (const field of fields.elements) if (field.name) field.value = values[field.name] ?? "";
  settings.showModal();
}

function keepSettings(event) {
  event.preventDefault();
  const given = [...fields.elements].filter((field) => field.name && field.value.trim());
  const value = (field) => (field.type === "number" ? field.valueAsNumber : field.value);
  store.saveSettings(Object.fromEntries(given.map((field) => [field.name, value(field)])));
  settings.close();
}

find("composer").onsubmit = (event) => { event.preventDefault(); send(); };
find("stop").onclick = () => { stop(); text.focus(); };
find("new").onclick = () => open(store.newConversation());
find("menu").onclick = () => showMenu(!document.body.classList.contains("menu"));
find("open-settings").onclick = showSettings;
find("enter-key").onclick = () => askForKey("The service needs one.");
fields.onsubmit = keepSettings;
text.oninput = fit;
text.onkeydown = (event) => {
  // Enter also ends what an input method composes.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
};
document.onkeydown = (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (document.body.classList.contains("menu")) showMenu(false);
  else stop();
};
store.watch(showList);
figures.watch();
showAll();
