// Conversations and settings, in the browser's storage, and the key for as long as the tab is open.

const CONVERSATION = "wick.conversation.";
const SETTINGS = "wick.settings";
const KEY = "wick.key";

/** What stands in for a storage where the browser forbids it: nothing outlives the page. */
class Memory {
  #items = new Map();
  get length() { return this.#items.size; }
  key(i) { return [...this.#items.keys()][i]; }
  getItem(key) { return this.#items.get(key) ?? null; }
  setItem(key, value) { this.#items.set(key, value); }
  removeItem(key) { this.#items.delete(key); }
}

function open(name) {
  try {
    return window[name];
  } catch {
    return new Memory();
  }
}

const lasting = open("localStorage");
const passing = open("sessionStorage");

function read(key) {
  try {
    return JSON.parse(lasting.getItem(key));
  } catch {
    return null;
  }
}

const isConversation = (value) => typeof value?.id === "string" && Array.isArray(value.messages);

/** All conversations, the latest first. */
export function conversations() {
  const keys = Array.from({ length: lasting.length }, (_, i) => lasting.key(i));
  const all = keys.filter((key) => key.startsWith(CONVERSATION)).map(read);
  return all.filter(isConversation).sort((a, b) => b.changed - a.changed);
}

/** A conversation without messages, which is kept once it is saved. */
export function newConversation() {
  const now = Date.now();
  const id = now.toString(36) + Math.random().toString(36).slice(2);
  return { id, title: "", changed: now, messages: [] };
}

/** Keeps a conversation; fails where there is no room. */
export function save(conversation) {
  lasting.setItem(CONVERSATION + conversation.id, JSON.stringify(conversation));
}

export const remove = ({ id }) => lasting.removeItem(CONVERSATION + id);

export const settings = () => read(SETTINGS) ?? {};
export const saveSettings = (values) => lasting.setItem(SETTINGS, JSON.stringify(values));

export const key = () => passing.getItem(KEY);
export const saveKey = (value) => passing.setItem(KEY, value);

/** Calls `changed` when another tab has changed conversations. */
export function watch(changed) {
  addEventListener("storage", (event) => {
    if (!event.key || event.key.startsWith(CONVERSATION)) changed();
  });
}
