// The configuration in force, secrets hidden; what another would do to mail; and the revisions there were.
import { alertBox, badge, card, confirm, count, empty, failed, get, h, may, number, post, stamp, toast } from "./lib.js";

export async function configView() {
  const [{ where, text }, kept] = await Promise.all([get("/api/configuration"), may("admin") ? get("/api/config") : { revisions: [] }]);
  const shown = text ? card("As it was read, secrets hidden", h("div.code", { tabindex: "0" }, text.split("\n").map(line))) : h("section.card", {}, empty("config", "The configuration cannot be shown.", where));
  return [h("div.head", {}, h("h1", {}, "Config"), h("span.soft.break", {}, where), h("span.space"), may("admin") && h("button", { type: "button", onclick: reload }, "Reload the file")),
    h("div.stack", {}, may("admin") ? await previewing(kept.revisions, where) : "", shown, may("admin") && kept.revisions.length ? history(kept.revisions) : "")];
}

async function reload() {
  const said = await confirm("Put the file in force?", "It is read whole and judged first; a bad one changes nothing. No session ends for it.", { button: "Reload" });
  if (!said) return;
  try {
    const done = await post("/api/config/reload", {});
    toast(`Revision ${done.revision} is in force${done.said.length ? `: ${done.said.join("; ")}` : ""}`);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } catch (error) { toast(`${error.message}: ${error.remedy}`, { bad: true }); }
}

// ---- what another would do
async function previewing(revisions, where) {
  const current = revisions.length ? (await get(`/api/config/${revisions[0].id}`)).text : "";
  const answer = h("div.stack", { role: "status" });
  const text = h("textarea.mono", { name: "text", rows: 14, spellcheck: "false", "aria-label": "Another configuration" });
  text.value = current;
  const hours = h("input", { name: "hours", type: "number", min: 0, max: 8784, value: 24, "aria-label": "Hours of traffic" });
  const form = h("form.form", { onsubmit: async (event) => {
    event.preventDefault();
    try { answer.replaceChildren(...told(await post("/api/config/preview", { text: text.value, where, hours: Number(hours.value) }))); }
    catch (error) { answer.replaceChildren(failed(error)); }
  } }, text, h("div.filters", {}, h("label", {}, "Hours of traffic to judge it by", hours), h("button.primary", { type: "submit" }, "Preview")));
  return h("details.card", {}, h("summary.pad", {}, "Preview another configuration: nothing is changed"), h("div.pad.stack", {}, form, answer));
}

function told(found) {
  const moved = (shifts) => shifts.reduce((sum, one) => sum + one.recipients, 0);
  const parts = [["Of what waits", found.queue, found.queue_looked_at], ["Of the traffic there was", found.traffic, found.traffic_looked_at]];
  return [
    ...found.needs_restart.map((why) => alertBox("wait", why, "A reload refuses it; restart with the file.")),
    ...(moved(found.queue) + moved(found.traffic) ? [] : [alertBox("good", "No mail would go elsewhere, or be refused.")]),
    ...parts.map(([title, shifts, looked]) => card(`${title}: ${count(moved(shifts), "recipient")} of ${number(looked)} would change`, shifts.length ? h("table.rows.noticks", {}, h("thead", {}, h("tr", {}, h("th", {}, "Domain"), h("th", {}, "Now"), h("th", {}, "Then"), h("th.right", {}, "Recipients"))), h("tbody", {}, shifts.map(row))) : h("p.pad.soft", {}, "Nothing."))),
    found.cut ? h("p.sub", {}, "There was more traffic than was looked at.") : "",
  ];
}
const row = (one) => h("tr", {}, h("td.who", {}, one.domain), h("td.sub.break", {}, one.was), h("td", {}, badge(one.fate, { refused: "bad", stranded: "bad" }[one.fate] ?? "info"), h("div.sub.break", {}, one.detail)), h("td.right.nums", {}, number(one.recipients)));

const history = (revisions) => card("Revisions, newest first", h("table.rows.noticks", {}, h("tbody", {}, revisions.map((one, index) => h("tr", {}, h("td.who", {}, h("span.mono", {}, one.id), " ", index ? "" : badge("in force", "good")), h("td.sub", {}, `by ${one.by}`), h("td.sub.break", {}, one.where), h("td.right.sub.nums", {}, stamp(one.at)))))));

function line(text) {
  const [, before, comment] = /^((?:[^#"']|"(?:[^"\\]|\\.)*"|'[^']*')*)(#.*)?$/.exec(text) ?? [text, text, ""];
  if (/^\s*\[/.test(before)) return h("div", {}, h("span.s", {}, before), comment && h("span.c", {}, comment));
  const [, key, rest] = /^(\s*[\w."-]+)(\s*=.*)$/.exec(before) ?? [before, "", before];
  return h("div", {}, key && h("span.k", {}, key), rest, comment && h("span.c", {}, comment), text ? "" : " ");
}
