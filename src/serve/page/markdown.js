// Markdown as models write it, made of nodes: nothing in a text becomes HTML.

import { copyButton, make } from "./dom.js";

/** Marks within marks, and blocks within blocks, are text beyond this. */
const DEEPEST = 8;
/** Letters that emphasis spans at most, so that marks without an end take no time. */
const LONGEST = 2000;

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^\s`]*)/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^(\s*)([-*+]|(\d{1,9})[.)])\s+(.*)$/;

/** The nodes of a text. */
export function render(text) {
  return blocks(text.split(/\r?\n/), 0);
}

function blocks(lines, depth) {
  const nodes = [];
  let i = 0;
  while (i < lines.length) {
    const read = lines[i].trim() ? block(lines, i, depth) : { end: i + 1 };
    if (read.node) nodes.push(read.node);
    i = read.end;
  }
  return nodes;
}

/** The block that begins at a line, and the line after it. */
function block(lines, start, depth) {
  const line = lines[start];
  if (FENCE.test(line)) return code(lines, start);
  const heading = HEADING.exec(line);
  if (heading) {
    // The page's own headings are of the first and the second level.
    const level = Math.min(heading[1].length + 2, 6);
    return { node: make(`h${level}`, {}, ...inline(heading[2].replace(/\s#+$/, ""))), end: start + 1 };
  }
  if (RULE.test(line)) return { node: make("hr"), end: start + 1 };
  if (depth < DEEPEST) {
    if (QUOTE.test(line)) return quote(lines, start, depth);
    if (ITEM.test(line)) return list(lines, start, depth);
  }
  return paragraph(lines, start);
}

function code(lines, start) {
  const [, fence, language] = FENCE.exec(lines[start]);
  const closes = (line) => line.trim().startsWith(fence) && !line.trim().replaceAll(fence[0], "");
  let end = start + 1;
  while (end < lines.length && !closes(lines[end])) end += 1;
  const text = lines.slice(start + 1, end).join("\n");
  const head = make("div", { className: "code-head" }, make("span", {}, language));
  head.append(copyButton(() => text, "Copy the code"));
  const body = make("pre", { tabIndex: 0 }, make("code", { textContent: text }));
  return { node: make("div", { className: "code" }, head, body), end: end + 1 };
}

function quote(lines, start, depth) {
  let end = start;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines.slice(start, end).map((line) => line.replace(QUOTE, ""));
  return { node: make("blockquote", {}, ...blocks(inner, depth + 1)), end };
}

const indent = (line) => line.length - line.trimStart().length;

function list(lines, start, depth) {
  const [, margin, , number] = ITEM.exec(lines[start]);
  const node = make(number ? "ol" : "ul", number ? { start: Number(number) } : {});
  let end = start;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (!item || RULE.test(lines[end])) break;
    if (item[1].length < margin.length || Boolean(item[3]) !== Boolean(number)) break;
    const inner = [item[4]];
    end += 1;
    while (end < lines.length && belongs(lines, end, margin.length)) {
      inner.push(lines[end].slice(Math.min(indent(lines[end]), margin.length + 2)));
      end += 1;
    }
    node.append(make("li", {}, ...itemNodes(inner, depth)));
    if (!lines[end]?.trim() && ITEM.test(lines[end + 1] ?? "")) end += 1;
  }
  return { node, end };
}

/** Whether a line is of the item above it: it stands further right, or it is empty and such a line follows. */
function belongs(lines, i, margin) {
  const next = lines[i].trim() ? lines[i] : lines[i + 1] ?? "";
  return next.trim() !== "" && indent(next) > margin;
}

/** An item of one paragraph stands without it, so that lists are tight. */
function itemNodes(lines, depth) {
  const nodes = blocks(lines, depth + 1);
  return nodes[0]?.tagName === "P" ? [...nodes[0].childNodes, ...nodes.slice(1)] : nodes;
}

function paragraph(lines, start) {
  let end = start + 1;
  const ends = (line) =>
    !line.trim() || [FENCE, HEADING, QUOTE, ITEM, RULE].some((mark) => mark.test(line));
  while (end < lines.length && !ends(lines[end])) end += 1;
  return { node: make("p", {}, ...inline(lines.slice(start, end).join("\n"))), end };
}

/** What may begin in the middle of a text. */
const MARK = /`+|\*\*|__|\*|_|\[|https?:\/\/|\\[\\`*_[\]()#>~+.!-]/g;

/** The nodes of a text without blocks. */
function inline(text, depth = 0) {
  const nodes = [];
  let plain = 0;
  const marks = new RegExp(MARK);
  for (let mark = marks.exec(text); mark && depth < DEEPEST; mark = marks.exec(text)) {
    const found = span(text, mark.index, mark[0], depth);
    if (!found) continue;
    nodes.push(text.slice(plain, mark.index), found.node);
    plain = found.end;
    marks.lastIndex = plain;
  }
  nodes.push(text.slice(plain));
  return nodes.filter((node) => node !== "");
}

/** The node that begins with a mark at `at`, and where it ends; nothing where the mark is text. */
function span(text, at, mark, depth) {
  const from = at + mark.length;
  if (mark[0] === "\\") return { node: mark[1], end: from };
  if (mark[0] === "`") {
    const close = text.indexOf(mark, from);
    const inner = text.slice(from, close);
    return close > from && { node: make("code", { textContent: inner }), end: close + mark.length };
  }
  if (mark[0] === "h") {
    const [address] = /^[^\s<>"'`]*[^\s<>"'`.,;:!?)\]*_]/.exec(text.slice(at));
    return { node: link(address, [address]) ?? address, end: at + address.length };
  }
  if (mark === "[") return bracket(text, from, depth);
  return emphasis(text, at, mark, depth);
}

function bracket(text, from, depth) {
  const close = text.indexOf("](", from);
  const end = text.indexOf(")", close);
  if (close <= from || end < 0 || text.slice(from, close).includes("\n")) return null;
  const address = text.slice(close + 2, end).trim().split(/\s/)[0];
  const node = link(address, inline(text.slice(from, close), depth + 1));
  return node && { node, end: end + 1 };
}

function emphasis(text, at, mark, depth) {
  const from = at + mark.length;
  const isWord = (i) => /[\p{L}\p{N}]/u.test(text[i] ?? "");
  if (!/\S/.test(text[from] ?? "") || (mark[0] === "_" && isWord(at - 1))) return null;
  let close = text.indexOf(mark, from);
  while (close >= 0 && close - from < LONGEST) {
    const end = close + mark.length;
    // A single mark is none of a double one's; a mark after white space closes nothing.
    const isOther = mark.length === 1 && (text[end] === mark || text[close - 1] === mark);
    const isOpen = /\s/.test(text[close - 1]) || (mark[0] === "_" && isWord(end));
    if (close > from && !isOther && !isOpen) {
      const inner = inline(text.slice(from, close), depth + 1);
      return { node: make(mark.length === 2 ? "strong" : "em", {}, ...inner), end };
    }
    close = text.indexOf(mark, end);
  }
  return null;
}

/** A link, if the address is one of the web. */
function link(address, children) {
  const url = URL.canParse(address) ? new URL(address) : null;
  if (url?.protocol !== "http:" && url?.protocol !== "https:") return null;
  const rel = "noopener noreferrer";
  return make("a", { href: url.href, target: "_blank", rel, title: url.href }, ...children);
}
