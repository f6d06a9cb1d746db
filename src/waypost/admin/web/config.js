// The configuration in force, secrets hidden; and what another would change, where the service can tell.
import { card, empty, get, h } from "./lib.js";

export async function configView() {
  const { where, text } = await get("/api/configuration");
  if (!text) return [h("div.head", {}, h("h1", {}, "Config")), h("section.card", {}, empty("config", "The configuration cannot be shown.", where))];
  return [h("div.head", {}, h("h1", {}, "Config"), h("span.soft.break", {}, where)), h("div.stack", {}, card("As it was read, secrets hidden", h("div.code", { tabindex: "0" }, text.split("\n").map(line))))];
}

function line(text) {
  const [, before, comment] = /^((?:[^#"']|"(?:[^"\\]|\\.)*"|'[^']*')*)(#.*)?$/.exec(text) ?? [text, text, ""];
  if (/^\s*\[/.test(before)) return h("div", {}, h("span.s", {}, before), comment && h("span.c", {}, comment));
  const [, key, rest] = /^(\s*[\w."-]+)(\s*=.*)$/.exec(before) ?? [before, "", before];
  return h("div", {}, key && h("span.k", {}, key), rest, comment && h("span.c", {}, comment), text ? "" : " ");
}
