// Elements. Texts only ever become text nodes.

/** The element of this id. */
export const find = (id) => document.getElementById(id);

/** An element with these properties, attributes where the name has a dash, and children. */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "role" || key.includes("-")) element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children);
  return element;
}

/** A button that says what it does. */
export const button = (text, onclick, properties = {}) =>
  make("button", { type: "button", textContent: text, onclick, ...properties });

/** A button that copies what `text` gives. */
export function copyButton(text, label) {
  const copied = async ({ currentTarget: pressed }) => {
    pressed.textContent = (await copy(text())) ? "Copied" : "Not copied";
    setTimeout(() => { pressed.textContent = "Copy"; }, 1500);
  };
  return button("Copy", copied, { "aria-label": label });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyOldWay(text);
  }
}

/** Without HTTPS, browsers have no clipboard but this. */
function copyOldWay(text) {
  const focused = document.activeElement;
  const field = make("textarea", { value: text, className: "unseen" });
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return isCopied;
}
