// The overview: is it well, what flows, where it stands.
import { alertBox, badge, card, count, empty, get, h, number, rate, size, stamp, tabs } from "./lib.js";
import { chart, legend } from "./chart.js";

const SPANS = { "15 min": 15, "1 hour": 60, "6 hours": 360 };

export async function flowView({ onLive }) {
  let span = "1 hour", samples = [];
  const alerts = h("div.stack"), tiles = h("div.tiles"), mail = h("div.pad"), queued = h("div.pad"), hops = h("div"), facts = h("div.pad");
  const choice = h("div"), expiring = (await get("/api/expiries")).items;
  const draw = () => { mail.replaceChildren(...flowing(samples)); queued.replaceChildren(...waiting(samples)); };
  const load = async () => {
    choice.replaceChildren(tabs(Object.keys(SPANS), span, (name) => { span = name; load(); }));
    samples = (await get("/api/flow", { minutes: SPANS[span] })).samples;
    draw();
  };
  await load();
  let last = 0;
  onLive((now) => {
    alerts.replaceChildren(...warnings(now, expiring));
    tiles.replaceChildren(...numbers(now, samples));
    hops.replaceChildren(top(now.destinations));
    facts.replaceChildren(about(now.status));
    if (now.sample.at - last >= 10) {
      last = now.sample.at;
      samples = [...samples.filter((one) => one.at > now.sample.at - SPANS[span] * 60), now.sample];
      draw();
    }
  });
  return [
    h("div.head", {}, h("h1", {}, "Flow"), h("span.space"), choice),
    h("div.stack", {}, alerts, tiles,
      h("div.two", {}, card("Mail a minute", mail), card("Recipients in the queue", queued)),
      h("div.two", {}, card("Destinations", hops, h("a", { href: "#/destinations" }, "All")), card("Service", facts))),
  ];
}

function warnings(now, expiring) {
  const soon = expiring.filter((one) => one.trouble || (one.ends && one.days < 14));
  const all = [
    ...now.status.not_ready.map((text) => alertBox("bad", text)),
    ...now.status.warnings.map((text) => alertBox("wait", text)),
    ...soon.filter((one) => !now.status.warnings.some((text) => text.includes(one.name))).map((one) => alertBox(one.days < 3 ? "bad" : "wait", `The ${one.kind} ${one.name} ${one.days < 0 ? "has ended" : `ends in ${count(one.days, "day")}`}.`, one.trouble)),
  ];
  const troubled = now.destinations.destinations.filter((one) => ["resting", "held", "stalled"].includes(one.phase));
  if (troubled.length) all.push(alertBox("wait", `${count(troubled.length, "destination")} in trouble: ${troubled.slice(0, 3).map((one) => one.next_hop).join(", ")}${troubled.length > 3 ? " …" : ""}`));
  return all.length ? all : [alertBox("good", "Ready. Nothing needs your attention.")];
}

// Rates a minute out of totals: what lies between two samples.
export const rates = (samples, field) => samples.slice(1).map((one, index) => {
  const before = samples[index];
  return [one.at, Math.max(0, ((one[field] - before[field]) / (one.at - before.at || 1)) * 60)];
});

function flowing(samples) {
  const series = [
    { name: "in", colour: "s1", points: rates(samples, "received"), area: true },
    { name: "out", colour: "s2", points: rates(samples, "delivered"), area: true },
    { name: "deferred", colour: "s3", points: rates(samples, "deferred") },
    { name: "rejected", colour: "s4", points: rates(samples, "rejected") },
  ];
  return [chart(series, { label: "Messages in, recipients delivered, deferred and rejected, a minute", unit: "/min" }), legend(series)];
}
function waiting(samples) {
  const series = [{ name: "waiting", colour: "s5", points: samples.map((one) => [one.at, one.queued]), area: true }, { name: "held", colour: "s4", points: samples.map((one) => [one.at, one.held]) }];
  return [chart(series, { label: "Recipients in the queue" }), legend(series)];
}

function numbers(now, samples) {
  const before = samples.findLast?.((one) => one.at <= now.sample.at - 55) ?? samples[0];
  const lately = (field) => (before && now.sample.at > before.at ? ((now.sample[field] - before[field]) / (now.sample.at - before.at)) * 60 : 0);
  const tile = (label, colour, value, unit, more) => h("div.card.tile", {}, h("div.label", {}, h("i", { class: colour }), label), h("div.value", {}, value, unit && h("small", {}, ` ${unit}`)), h("div.more", {}, more));
  const one = now.sample;
  return [
    tile("In", "s1", rate(lately("received")), "/min", `${number(one.received)} since the start, ${size(one.octets)}`),
    tile("Out", "s2", rate(lately("delivered")), "/min", `${number(one.delivered)} recipients since the start`),
    tile("Queue", "s5", number(now.status.recipients), "", `${count(now.status.messages, "message")}, ${number(now.status.held)} held`),
    tile("Deferred", "s3", rate(lately("deferred")), "/min", `${number(one.deferred)} since the start`),
    tile("Rejected", "s4", rate(lately("rejected")), "/min", `${number(one.rejected)} since the start`),
    tile("Sessions", "s1", number(one.sessions), "open", `${number(one.refused)} commands refused`),
  ];
}

export function ratio(tally) {
  const all = tally.delivered + tally.deferred + tally.rejected + tally.in_doubt;
  if (!all) return h("span.faint", {}, "nothing tried yet");
  const bar = h("div.ratio", { role: "img", "aria-label": `${tally.delivered} delivered, ${tally.deferred} deferred, ${tally.rejected + tally.in_doubt} failed` });
  for (const [name, value] of [["g", tally.delivered], ["w", tally.deferred], ["b", tally.rejected + tally.in_doubt]]) {
    const part = h(`i.${name}`); part.style.width = `${(100 * value) / all}%`; if (value) bar.append(part);
  }
  return h("div", {}, h("div.nums", {}, `${Math.round((100 * tally.delivered) / all)} %`, h("span.faint", {}, ` of ${number(all)}`)), bar);
}

function top({ destinations }) {
  if (!destinations.length) return empty("hosts", "Nothing to deliver at present.");
  return h("table.rows.noticks", {}, h("thead", {}, h("tr", {}, h("th", {}, "Next hop"), h("th", {}, "Does"), h("th.right", {}, "Waiting"), h("th", {}, "Delivered"))), h("tbody", {}, destinations.slice(0, 8).map((one) => h("tr", {},
    h("td.who", {}, h("a", { href: `#/destinations/${encodeURIComponent(one.next_hop)}` }, one.next_hop), one.route && h("div.sub", {}, one.route)),
    h("td", {}, badge(one.phase)), h("td.right.nums", {}, `${number(one.waiting)}${one.more ? "+" : ""}`), h("td", {}, ratio(one.tally))))));
}

function about(status) {
  const service = status.service;
  const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];
  return h("dl.facts", {}, fact("Version", `${service.version}${service.compiled ? ", compiled" : ""}`), fact("Up since", stamp(service.started_at)),
    service.listeners.map((one) => fact(one.role, one.address)), fact("Spool", service.spool), fact("A 250 means", service.durability), fact("Reports due", number(status.reports_due)));
}
