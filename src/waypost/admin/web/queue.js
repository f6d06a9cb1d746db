// The queue and the bin: find, select, act; and why a recipient waits.
import { badge, card, confirm, count, dialog, empty, failed, get, h, icon, may, number, post, progress, size, span, stamp, tabs, toast, until, when } from "./lib.js";

const PAGE = 100, SLICE = 1000;
const ACTS = {
  retry: { text: "Retry now", title: "Try them now?", done: "due now", button: "Retry" },
  hold: { text: "Hold", title: "Hold them?", done: "held", button: "Hold", fields: [{ name: "reason", label: "Why" }] },
  release: { text: "Release", title: "Release them?", done: "released", button: "Release", fields: [{ name: "reason", label: "Why" }] },
  reroute: { text: "Reroute", title: "Send them another way?", done: "rerouted", button: "Reroute", fields: [{ name: "to", label: "Next hop, or a route's name", required: true, placeholder: "smtp://spare.example.net:25", options: [] }, { name: "reason", label: "Why" }] },
  bounce: { text: "Bounce", title: "Give them up, and tell their authors?", done: "bounced", button: "Bounce", danger: true, undo: true, fields: [{ name: "reason", label: "What the author is told", required: true }] },
  delete: { text: "Delete", title: "Delete them, and tell nobody?", done: "deleted", button: "Delete", danger: true, undo: true, fields: [{ name: "reason", label: "Why" }] },
};

export async function queueView(context) {
  return context.rest[0] === "bin" ? binView() : context.rest[0] === "quarantine" ? quarantineView() : listView(context);
}
const PLACES = { Queue: "#/queue", Quarantine: "#/queue/quarantine", Bin: "#/queue/bin" };
const which = (chosen) => tabs(Object.keys(PLACES), chosen, (name) => { location.hash = PLACES[name]; });

// ---- the list
async function listView({ query, latest }) {
  const filter = Object.fromEntries(["address", "domain", "next_hop", "state", "text"].map((name) => [name, query.get(name) ?? ""]));
  let entries = [], next = "", chosen = new Set();
  const list = h("div"), bar = h("div.dock"), more = h("div");
  const key = (entry) => `${entry.id}:${entry.number}`;

  // An answer may come of a part of the queue, and say where to look on.
  let asking = 0;
  const load = async (after = "") => {
    const mine = asking += 1, found = after ? [...entries] : [], wanted = found.length + PAGE;
    let onward = after;
    try {
      do {
        const page = await get("/api/queue", { ...filter, after: onward, limit: wanted - found.length });
        if (mine !== asking) return;
        found.push(...page.entries);
        onward = page.next;
        if (onward && found.length < wanted) more.replaceChildren(h("p.pad.soft.nums", { role: "status" }, `Looking through the queue, ${count(found.length, "recipient")} found so far …`));
      } while (onward && found.length < wanted);
    } catch (error) { list.replaceChildren(failed(error)); bar.replaceChildren(); more.replaceChildren(); return; }
    entries = found; next = onward;
    if (!after) chosen = new Set();
    draw();
  };
  const draw = () => {
    list.replaceChildren(entries.length ? table() : empty("check", Object.values(filter).some(Boolean) ? "Nothing of that kind waits." : "The queue is empty.", "What became of a message is under Trace."));
    more.replaceChildren(...(next ? [h("div.pad", {}, h("button", { type: "button", onclick: () => load(next) }, `Show more than ${number(entries.length)}`))] : []));
    actions();
  };
  const table = () => {
    const all = h("input", { type: "checkbox", "aria-label": "Select all that are shown", checked: chosen.size === entries.length, onchange: () => { chosen = all.checked ? new Set(entries.map(key)) : new Set(); draw(); } });
    return h("table.rows", {}, h("thead", {}, h("tr", {}, may("operator") && h("th.tick", {}, all), h("th", {}, "Recipient"), h("th", {}, "State"), h("th", {}, "Last outcome"), h("th", {}, "Next hop"), h("th.right", {}, "Age"))), h("tbody", {}, entries.map(row)));
  };
  const row = (entry) => {
    const box = h("input", { type: "checkbox", "aria-label": `Select ${entry.forward_path}`, checked: chosen.has(key(entry)), onchange: () => { box.checked ? chosen.add(key(entry)) : chosen.delete(key(entry)); line.classList.toggle("chosen", box.checked); actions(); } });
    const line = h("tr", { class: chosen.has(key(entry)) ? "chosen" : "" }, may("operator") && h("td.tick", {}, box),
      h("td.who.wider", {}, h("button.plain.id.mono", { type: "button", onclick: () => details(entry, load) }, entry.id), h("div", {}, entry.forward_path), h("div.sub", {}, `from ${entry.reverse_path || "<>"}`)),
      h("td", {}, badge(entry.state), entry.state === "waiting" && h("div.sub.nums", {}, until(entry.due_at))),
      h("td.whole", {}, h("div.sub.clip", {}, entry.reason || entry.last_outcome || "not tried yet"), entry.attempts > 0 && h("div.sub.faint", {}, count(entry.attempts, "attempt"))),
      h("td.away.sub", {}, entry.next_hop), h("td.right.nums.sub.away", {}, span(Date.now() / 1000 - entry.received_at), h("div.faint", {}, size(entry.size))));
    return line;
  };
  const actions = () => {
    const filtered = Object.values(filter).some(Boolean);
    if (!may("operator") || !entries.length) return bar.replaceChildren();
    const some = chosen.size;
    if (!some && !filtered) return bar.replaceChildren();
    const text = some ? `${count(some, "recipient")} selected` : "All that the filter shows";
    bar.replaceChildren(h("div.bar", { role: "toolbar", "aria-label": "What to do with them" }, h("b.nums", {}, text), h("span.space"), Object.entries(ACTS).map(([name, act]) => h("button", { type: "button", class: act.danger ? "danger" : "", "data-action": name, onclick: () => (some ? actOnChosen(name) : actOnFilter(name)) }, act.text))));
  };
  const agreed = (name, text) => {
    const act = ACTS[name];
    const options = (latest()?.destinations.destinations ?? []).map((one) => one.next_hop);
    return confirm(act.title, text, { fields: (act.fields ?? []).map((field) => (field.options ? { ...field, options } : field)), button: act.button, danger: act.danger });
  };
  const actOnChosen = async (name) => {
    const meant = entries.filter((entry) => chosen.has(key(entry)));
    const said = await agreed(name, `This is for ${count(meant.length, "recipient")}.`);
    if (!said) return;
    const shown = meant.length > 20 ? progress(ACTS[name].text, meant.length) : null;
    let done = 0;
    try {
      for (const [index, entry] of meant.entries()) {
        done += (await post(`/api/queue/${entry.id}/${name}`, { ...said, address: entry.forward_path })).recipients;
        shown?.step(index + 1);
      }
      finished(name, done, meant.map((entry) => entry.id));
    } catch (error) { toast(`${error.message}: ${error.remedy}`, { bad: true }); }
    finally { shown?.done(); load(); }
  };
  const countAll = async () => { // a dry run, part by part
    const shown = next ? progress("Counting", latest()?.status.recipients ?? 0) : null;
    let total = 0, after = "";
    do {
      const part = await post("/api/queue/retry", { ...given(filter), dry_run: true, limit: SLICE, after });
      total += part.recipients; after = part.next; shown?.step(total);
    } while (after);
    shown?.done();
    return total;
  };
  const actOnFilter = async (name) => {
    try {
      const counted = await countAll();
      const said = await agreed(name, `This is for all ${count(counted, "recipient")} that the filter shows.`);
      if (!said) return;
      const shown = counted > SLICE ? progress(ACTS[name].text, counted) : null;
      let done = 0, after = "";
      do {
        const acted = await post(`/api/queue/${name}`, { ...given(filter), ...said, limit: SLICE, after });
        done += acted.recipients; after = acted.next; shown?.step(done);
      } while (after);
      shown?.done();
      finished(name, done, []);
    } catch (error) { toast(`${error.message}: ${error.remedy}`, { bad: true }); }
    load();
  };
  const finished = (name, done, ids) => {
    const undo = ACTS[name].undo && ids.length && (async () => { const back = await post("/api/bin/restore", { ids }); toast(`${count(back.recipients, "recipient")} back in the queue`); load(); });
    toast(`${count(done, "recipient")} ${ACTS[name].done}`, { undo: undo || undefined });
  };

  const form = h("form.filters", { role: "search", onsubmit: (event) => {
    event.preventDefault();
    const asked = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    location.hash = asked.size ? `#/queue?${asked}` : "#/queue";
  } },
    h("input", { name: "address", placeholder: "Address", "aria-label": "From or to this address", value: filter.address }),
    h("input", { name: "domain", placeholder: "Domain", "aria-label": "To this domain", value: filter.domain }),
    h("input", { name: "next_hop", placeholder: "Next hop", "aria-label": "Waiting for this next hop", value: filter.next_hop }),
    h("input", { name: "text", placeholder: "Reply or reason", "aria-label": "Part of the last outcome", value: filter.text }),
    h("select", { name: "state", "aria-label": "State", onchange: () => form.requestSubmit() }, ["", "due", "waiting", "in delivery", "held"].map((value) => h("option", { value, selected: value === filter.state }, value || "Any state"))),
    h("button", { type: "submit" }, "Filter"));
  await load();
  return [h("div.head", {}, h("h1", {}, "Queue"), which("Queue"), h("span.space"), h("button", { type: "button", onclick: () => load() }, "Refresh")), h("section.card", {}, h("header", {}, form), list, more), bar];
}
const given = (filter) => Object.fromEntries(Object.entries(filter).filter(([, value]) => value));

// ---- one recipient
async function details(entry, reload) {
  const body = h("div", {}, h("p.soft", {}, "…"));
  const shown = dialog(body, "drawer");
  const [detail, why] = await Promise.all([get(`/api/queue/${entry.id}`), get(`/api/why/${entry.id}`)]).catch((error) => [error]);
  const close = h("button.plain", { type: "button", "aria-label": "Close", onclick: () => shown.close() }, icon("close"));
  if (detail instanceof Error) return body.replaceChildren(close, failed(detail));
  const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];
  const act = (name) => h("button", { type: "button", class: ACTS[name].danger ? "danger" : "", onclick: async () => {
    const said = await confirm(ACTS[name].title, `This is for the whole message ${entry.id}.`, { fields: ACTS[name].fields, button: ACTS[name].button, danger: ACTS[name].danger });
    if (!said) return;
    try { const acted = await post(`/api/queue/${entry.id}/${name}`, said); toast(`${count(acted.recipients, "recipient")} ${ACTS[name].done}`); shown.close(); reload(); }
    catch (error) { toast(`${error.message}: ${error.remedy}`, { bad: true }); }
  } }, ACTS[name].text);
  body.replaceChildren(
    h("div.head", {}, h("h1.mono", {}, entry.id), h("span.space"), h("a.button", { href: `#/trace/${entry.id}`, onclick: () => shown.close() }, "Its life"), close),
    h("dl.facts", {}, fact("From", detail.reverse_path || "<>"), fact("Received", [stamp(detail.received_at), ` by ${detail.origin.protocol}`, detail.origin.client_host ? ` from ${detail.origin.client_name} [${detail.origin.client_host}]` : ""]), fact("Size", size(detail.size))),
    ...why.recipients.map(reason),
    may("operator") ? h("div.filters", {}, Object.keys(ACTS).map(act)) : "",
    h("details", {}, h("summary", {}, "Header"), h("pre.talk", {}, detail.header)));
}

export function reason(one) {
  return h("section.card", {}, h("header", {}, h("b.break", {}, one.entry.forward_path), h("span.space"), badge(one.limiting, "wait")), h("div.pad.stack", {},
    h("p.break", {}, one.text), one.clears_at ? h("p.soft.nums", {}, `Until ${when(one.clears_at)} (${until(one.clears_at)})`) : "", one.remedy ? h("p.sub", {}, one.remedy) : ""));
}

// ---- the quarantine
async function quarantineView() {
  const list = h("div");
  const act = async (entry, name) => {
    const said = await confirm(ACTS[name].title, `This is for ${entry.forward_path}, ${entry.id}.`, { fields: ACTS[name].fields, button: ACTS[name].button, danger: ACTS[name].danger });
    if (!said) return;
    try { await post(`/api/queue/${entry.id}/${name}`, { ...said, address: entry.forward_path }); toast(`1 recipient ${ACTS[name].done}`); } catch (error) { toast(`${error.message}: ${error.remedy}`, { bad: true }); }
    load();
  };
  const load = async () => {
    const page = await get("/api/quarantine").catch((error) => { list.replaceChildren(failed(error)); return null; });
    if (!page) return;
    list.replaceChildren(page.entries.length ? h("table.rows.noticks", {}, h("thead", {}, h("tr", {}, h("th", {}, "Recipient"), h("th", {}, "Why"), h("th", {}, "Since"), h("th"))), h("tbody", {}, page.entries.map((entry) => h("tr", {},
      h("td.who", {}, h("button.plain.id.mono", { type: "button", onclick: () => details(entry, load) }, entry.id), h("div", {}, entry.forward_path), h("div.sub", {}, `from ${entry.reverse_path || "<>"}`)),
      h("td.whole.sub", {}, entry.reason), h("td.sub.nums.away", {}, stamp(entry.received_at)),
      h("td.right", {}, h("a.button", { href: `/api/queue/${entry.id}/raw`, target: "_blank", rel: "noopener" }, "Raw"), " ", may("operator") && [h("button", { type: "button", onclick: () => act(entry, "release") }, "Release"), " ", h("button.danger", { type: "button", onclick: () => act(entry, "delete") }, "Delete")]))))) : empty("check", "Nothing is in quarantine."));
  };
  await load();
  return [h("div.head", {}, h("h1", {}, "Queue"), which("Quarantine")), h("section.card", {}, list)];
}

// ---- the bin
async function binView() {
  const list = h("div");
  const load = async () => {
    const page = await get("/api/bin", { limit: SLICE }).catch((error) => { list.replaceChildren(failed(error)); return null; });
    if (!page) return;
    list.replaceChildren(page.entries.length ? h("table.rows.noticks", {}, h("thead", {}, h("tr", {}, h("th", {}, "Recipient"), h("th", {}, "Why"), h("th", {}, "Since"), h("th"))), h("tbody", {}, page.entries.map((entry) => h("tr", {},
      h("td.who", {}, h("a.mono", { href: `#/trace/${entry.id}` }, entry.id), h("div", {}, entry.forward_path), h("div.sub", {}, `from ${entry.reverse_path || "<>"}`)),
      h("td.whole.sub", {}, entry.why), h("td.sub.nums.away", {}, stamp(entry.at)),
      h("td.right", {}, may("operator") && h("button", { type: "button", onclick: async () => { await post("/api/bin/restore", { ids: [entry.id], address: entry.forward_path }).catch((error) => toast(error.message, { bad: true })); toast("1 recipient back in the queue"); load(); } }, "Bring back")))))) : empty("check", "The bin is empty.", "What is deleted or bounced stays here for a while."));
  };
  await load();
  return [h("div.head", {}, h("h1", {}, "Queue"), which("Bin")), h("section.card", {}, list)];
}
