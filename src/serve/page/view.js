// A conversation as it is seen, and as it is read out.

import { button, copyButton, find, make } from "./dom.js";
import { render } from "./markdown.js";

const log = find("log");
const announcer = find("announcer");

/** Pixels from the end within which the view follows an answer. */
const NEAR = 80;

/** Shows all of a conversation. `retry` asks again for its last answer. */
export function show(conversation, retry) {
  const last = conversation.messages.length - 1;
  log.replaceChildren(...conversation.messages.map((message, i) =>
    element(message, i === last && retry)));
  if (last < 0) log.append(make("p", { className: "empty" }, "Ask something. What is written stays in this browser."));
  log.scrollTop = log.scrollHeight;
}

/** Shows a message as it is now, in place of how it was. */
export function update(message, retry) {
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;
  log.lastElementChild?.replaceWith(element(message, retry));
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

function element(message, retry) {
  const isAnswer = message.role === "assistant";
  const name = isAnswer ? "Answer" : "You";
  const body = make("div", { className: "body" });
  body.append(...(isAnswer ? render(message.content) : [message.content]));
  const node = make("article", { className: message.role, "aria-label": name }, body);
  if (message.progress) node.append(progress(message.progress));
  else if (message.isOpen && !message.content) node.append(make("p", { className: "note" }, "Waiting …"));
  if (message.error) node.append(make("p", { className: "error" }, message.error));
  if (message.note) node.append(make("p", { className: "note" }, message.note));
  if (!message.isOpen) node.append(tools(message, name, retry));
  return node;
}

function progress({ prompt, held }) {
  const bar = make("progress", { max: prompt, value: held, "aria-label": "Prompt read" });
  return make("p", { className: "note" }, bar, ` ${held} of ${prompt} tokens of the prompt read`);
}

function tools(message, name, retry) {
  const all = make("div", { className: "tools" });
  if (message.content) all.append(copyButton(() => message.content, `Copy: ${name}`));
  if (retry) all.append(button("Retry", retry));
  return all;
}

let said = 0;

/** Reads out what is whole of an answer: sentences and lines, and the rest once it has ended. */
export function announce({ content, error, isOpen }) {
  const next = content.slice(said);
  const ends = [...next.matchAll(/[.!?]\s|\n/g)];
  const whole = isOpen ? (ends.at(-1)?.index ?? -1) + 1 : next.length;
  if (whole > 0) announcer.append(make("p", {}, next.slice(0, whole)));
  said += whole;
  if (error) announcer.append(make("p", {}, error));
}

/** Begins to read out another answer. */
export function announceAnew() {
  said = 0;
  announcer.replaceChildren();
}

/** Shows the list of conversations. */
export function list(conversations, current, { open, rename, remove }) {
  const item = (conversation) => {
    const isCurrent = conversation.id === current.id;
    const title = button(conversation.title, () => open(conversation), { className: "title" });
    if (!isCurrent) return make("li", {}, title);
    title.setAttribute("aria-current", "true");
    const label = (verb) => ({ "aria-label": `${verb}: ${conversation.title}` });
    return make("li", { className: "current" }, title, make("div", { className: "tools" },
      button("Rename", () => edit(title, conversation, rename), label("Rename")),
      button("Delete", () => remove(conversation), label("Delete"))));
  };
  find("conversations").replaceChildren(...conversations.map(item));
}

/** Puts a field in a title's place until Enter, Escape, or something else is pressed. */
function edit(title, conversation, rename) {
  const field = make("input", { value: conversation.title, maxLength: 100, "aria-label": "Name" });
  let isDone = false;
  const end = (name) => {
    if (isDone) return;
    isDone = true;
    rename(conversation, name.trim() || conversation.title);
  };
  field.onblur = () => end(field.value);
  field.onkeydown = (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    // Escape would stop an answer, too.
    event.stopPropagation();
    end(event.key === "Enter" ? field.value : conversation.title);
    find("conversations").querySelector("[aria-current]").focus();
  };
  title.replaceWith(field);
  field.select();
}
