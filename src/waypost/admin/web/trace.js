// What became of a message: found by id or address, told event by event, each attempt with its dialogue.
import { badge, card, empty, failed, get, h, stamp, until } from "./lib.js";

export async function traceView({ rest, query }) {
  const asked = rest[0] ?? "", result = h("div.stack");
  const names = ["domain", "message_id", "next_hop", "outcome", "text", "since"];
  const wanted = Object.fromEntries(names.map((name) => [name, query.get(name) ?? ""]));
  const form = h("form.filters", { role: "search", onsubmit: (event) => {
    event.preventDefault();
    const said = Object.fromEntries(new FormData(form));
    const what = said.asked.trim(); delete said.asked;
    const more = new URLSearchParams(Object.entries(said).filter(([, value]) => value));
    location.hash = `#/trace/${encodeURIComponent(what)}${more.size ? `?${more}` : ""}`;
  } },
    h("input", { name: "asked", placeholder: "Message id or address", "aria-label": "Message id or address", value: asked }),
    h("input", { name: "domain", placeholder: "Recipient's domain", "aria-label": "Recipient's domain", value: wanted.domain }),
    h("input", { name: "message_id", placeholder: "Message-ID", "aria-label": "Message-ID", value: wanted.message_id }),
    h("input", { name: "text", placeholder: "Reply text", "aria-label": "Part of a reply", value: wanted.text }),
    h("select", { name: "outcome", "aria-label": "Outcome" }, ["", "delivered", "deferred", "rejected", "in doubt"].map((value) => h("option", { value, selected: value === wanted.outcome }, value || "Any outcome"))),
    h("select", { name: "since", "aria-label": "Since" }, [["", "Any time"], ["1", "Last hour"], ["24", "Last day"], ["168", "Last week"]].map(([value, text]) => h("option", { value, selected: value === wanted.since }, text))),
    h("button.primary", { type: "submit" }, "Search"));
  await find(asked, wanted, result);
  return [h("div.head", {}, h("h1", {}, "Trace")), h("div.stack", {}, h("section.card", {}, h("header", {}, form)), result)];
}

async function find(asked, wanted, result, before = "") {
  const filtered = Object.values(wanted).some(Boolean);
  if (!asked && !filtered) return result.replaceChildren(h("section.card", {}, empty("trace", "What became of a message?", "Search by its id, an address, its Message-ID, or part of what a host replied.")));
  try {
    if (asked && !asked.includes("@")) {
      const { traces } = await get(`/api/trace/${encodeURIComponent(asked)}`);
      return result.replaceChildren(...traces.map((one) => life(one, true)));
    }
    const { since, ...rest } = wanted;
    const found = await get("/api/search", { address: asked, ...rest, since: since ? Math.floor(Date.now() / 1000 - since * 3600) : "", before, limit: 20 });
    if (!before) result.replaceChildren();
    result.querySelector(".onward")?.remove();
    result.append(...found.traces.map((one) => life(one, found.traces.length === 1 && !before)));
    if (!found.traces.length && !found.next) result.append(h("section.card", {}, empty("trace", "Nothing more is known of that.", "The history of old messages is dropped after a while.")));
    if (found.next) result.append(h("div.onward", {}, h("button", { type: "button", onclick: () => find(asked, wanted, result, found.next) }, "Search on, in older mail")));
  } catch (error) { result.replaceChildren(failed(error)); }
}

const TONE = { delivered: "good", rejected: "bad", deferred: "wait", "in doubt": "wait" };
function life(trace, open) {
  const first = trace.events.find((event) => event.kind === "received");
  const to = (first?.details.recipients ?? []).map((one) => one.forward_path);
  const head = [h("b.mono", {}, trace.id), h("span.sub.break", {}, first ? `${first.details.reverse_path || "<>"} → ${to.slice(0, 2).join(", ")}${to.length > 2 ? ` and ${to.length - 2} more` : ""}` : ""), h("span.space"), fate(trace)];
  const body = h("div.pad", {}, h("ol.life", {}, trace.events.map(event), trace.waiting.map((entry) => h("li.info", {}, h("p", {}, h("b.break", {}, entry.forward_path), " ", badge(entry.state), entry.state === "waiting" ? h("span.sub.nums", {}, ` tried again ${until(entry.due_at)}`) : ""), entry.reason && h("p.sub", {}, entry.reason)))));
  if (open) return h("section.card", {}, h("header", {}, head), body);
  const shown = h("section.card", {}, h("header", {}, head, h("button", { type: "button", "aria-expanded": "false", onclick: (clicked) => { body.hidden = !body.hidden; clicked.target.textContent = body.hidden ? "Show" : "Hide"; clicked.target.setAttribute("aria-expanded", String(!body.hidden)); } }, "Show")), body);
  body.hidden = true;
  return shown;
}

function fate(trace) {
  if (trace.waiting.length) return badge(trace.waiting[0].state);
  const outcomes = trace.events.flatMap((one) => one.details.outcomes ?? []);
  const last = outcomes.at(-1)?.outcome;
  return last ? badge(last) : badge(trace.events.at(-1)?.kind ?? "");
}

function event(one) {
  const outcomes = one.details.outcomes ?? [];
  const tone = outcomes.length ? TONE[outcomes[0].outcome] : { operator: "info", done: "good", received: "good" }[one.kind] ?? "";
  const took = one.details.ended_at ? ` in ${(one.details.ended_at - one.details.started_at).toFixed(2)} s` : "";
  return h("li", { class: tone }, h("p", {}, stamp(one.at), " ", h("b", {}, one.kind), one.details.next_hop ? h("span.sub", {}, ` to ${one.details.next_hop}${took}`) : ""),
    outcomes.length ? outcomes.map((outcome) => h("p.break", {}, h("b", {}, outcome.recipient), " ", h("span", { class: TONE[outcome.outcome] }, outcome.text))) : h("p.break.soft", {}, one.text),
    one.kind === "received" ? h("p.sub", {}, (one.details.recipients ?? []).map((to) => `${to.forward_path} by ${to.next_hop}`).join("; ")) : "",
    one.details.transcript?.length ? h("details", {}, h("summary", {}, `Dialogue, ${one.details.transcript.length} lines`), talk(one.details.transcript)) : "");
}

const talk = (lines) => h("div.talk", { tabindex: "0" }, lines.map(([at, mark, text]) => h("div", { class: mark === "*" ? "X" : mark }, h("span", {}, Number(at).toFixed(3)), h("span", {}, mark), h("span", {}, text))));
