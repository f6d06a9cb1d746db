// The inbox that capture: routes keep: a list, and a message as HTML, text, header or source.
import { card, confirm, count, empty, failed, get, h, may, post, size, stamp, tabs, toast, when } from "./lib.js";

export async function inboxView({ rest, onLive }) {
  const letters = h("div.letters"), reading = h("div");
  let messages = [], next = 0, number = Number(rest[0] ?? 0);
  const list = () => letters.replaceChildren(...(messages.length ? messages.map(line) : [empty("inbox", "Nothing was captured.", "Mail that a capture: route takes lands here.")]), next ? h("div.pad", {}, h("button", { type: "button", onclick: older }, "Older")) : "");
  const line = (one) => h("a", { href: `#/inbox/${one.number}`, "aria-current": one.number === number && "true" }, h("div.top", {}, h("b.break", {}, one.recipients.join(", ")), h("time", {}, when(one.captured_at))), h("div.sub", {}, `from ${one.reverse_path || "<>"} · ${size(one.size)}`));
  const load = async () => { ({ messages, next } = await get("/api/inbox", { limit: 50 })); list(); };
  const older = async () => { const page = await get("/api/inbox", { limit: 50, before: next }); messages = [...messages, ...page.messages]; next = page.next; list(); };
  await load();
  if (!number && messages.length) number = messages[0].number;
  list();
  reading.replaceChildren(number ? await letter(number).catch(failed) : h("section.card", {}, empty("inbox", "No message is chosen.")));
  let seen = messages[0]?.number ?? 0;
  let busy = false;
  onLive(async () => {
    if (busy) return;
    busy = true;
    const newest = (await get("/api/inbox", { limit: 1 }).catch(() => ({ messages: [] }))).messages[0]?.number ?? 0;
    if (newest > seen) { seen = newest; await load(); }
    busy = false;
  });
  const clear = may("operator") && h("button.danger", { type: "button", onclick: async () => {
    if (!(await confirm("Empty the inbox?", "All captured messages are dropped; this cannot be undone.", { button: "Empty it", danger: true }))) return;
    const { messages: gone } = await post("/api/inbox/clear", { messages: 0 });
    toast(`${count(gone, "message")} dropped`);
    location.hash = "#/inbox"; await load(); reading.replaceChildren(h("section.card", {}, empty("inbox", "No message is chosen.")));
  } }, "Empty");
  return [h("div.head", {}, h("h1", {}, "Inbox"), h("span.space"), clear), h("div.mail", {}, h("section.card", {}, letters), reading)];
}

async function letter(number) {
  const detail = await get(`/api/inbox/${number}`);
  const field = (name) => detail.header.find(([key]) => key.toLowerCase() === name)?.[1] ?? "";
  const body = h("div"), choice = h("div");
  const ways = { ...(detail.html ? { HTML: html } : {}), ...(detail.text || !detail.html ? { Text: text } : {}), Header: header, Source: source };
  const show = async (name) => {
    choice.replaceChildren(tabs(Object.keys(ways), name, show));
    body.replaceChildren(await ways[name](detail));
  };
  await show(Object.keys(ways)[0]);
  return h("section.card", {}, h("header", {}, h("div", {}, h("h2.break", {}, field("subject") || "(no subject)"), h("div.sub", {}, `${field("from") || detail.message.reverse_path || "<>"} → ${detail.message.recipients.join(", ")} · `, stamp(detail.message.captured_at))), h("span.space"), choice),
    body,
    h("div.files", {}, detail.attachments.map((name, index) => h("a.button", { href: `/api/inbox/${number}/parts/${index}`, download: name }, name)), h("a.button", { href: `/api/inbox/${number}/raw`, target: "_blank", rel: "noopener" }, "Raw"), h("a.button", { href: `#/trace/${detail.message.id}` }, "Its life")));
}

const html = (detail) => h("iframe", { sandbox: "", src: `/api/inbox/${detail.message.number}/html`, title: "The message's HTML", referrerpolicy: "no-referrer" });
const text = (detail) => h("pre.source", { tabindex: "0" }, detail.text || "(no text)");
const header = (detail) => h("div.pad", {}, h("dl.facts", {}, detail.header.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
async function source(detail) {
  const response = await fetch(`/api/inbox/${detail.message.number}/raw`);
  return h("pre.source", { tabindex: "0" }, (await response.text()).slice(0, 262144));
}
