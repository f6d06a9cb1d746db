// Destinations: what each next hop does, its last replies, and frost.
import { badge, card, confirm, count, empty, failed, get, h, may, number, post, stamp, toast, until } from "./lib.js";
import { ratio } from "./flow.js";

export async function hostsView({ rest, onLive }) {
  const list = h("div.stack"), frozen = h("div");
  let open = rest[0] ?? "", text = "";
  const act = async (path, body, done) => {
    try { await post(path, body); toast(done); } catch (error) { toast(`${error.message}: ${error.remedy}`, { bad: true }); }
    await cold();
  };
  const freeze = async (place) => {
    const said = await confirm("Freeze it?", `Nothing is tried at ${place}, and nothing given up, until it is thawed.`, { fields: [{ name: "reason", label: "Why" }], button: "Freeze" });
    if (said) await act("/api/frozen/freeze", { place, ...said }, `${place} is frozen`);
  };
  const thaw = (place) => act("/api/frozen/thaw", { place }, `${place} is thawed`);
  const cold = async () => {
    const all = (await get("/api/frozen")).frozen;
    frozen.replaceChildren(...(all.length ? [card("Frozen", h("table.rows.noticks", {}, h("tbody", {}, all.map((one) => h("tr", {}, h("td.who", {}, one.place), h("td.whole.sub", {}, `by ${one.by}${one.reason ? `: ${one.reason}` : ""}`), h("td.sub.away", {}, stamp(one.at)), h("td.right", {}, may("operator") && h("button", { type: "button", onclick: () => thaw(one.place) }, "Thaw")))))))] : []));
  };
  const one = (state) => {
    const is = open === state.next_hop;
    const more = is && h("div.pad.stack", {},
      state.tally.last.length ? h("div", {}, h("h3", {}, "Last replies"), h("ul.stack", {}, state.tally.last.map((last) => h("li", {}, badge(last.outcome), " ", stamp(last.at), h("div.sub", {}, last.text))))) : h("p.soft", {}, "Nothing was tried yet."),
      h("div.filters", {},
        h("a.button", { href: `#/queue?next_hop=${encodeURIComponent(state.next_hop)}` }, "What waits for it"),
        may("operator") && h("button", { type: "button", onclick: () => act("/api/queue/retry", { next_hop: state.next_hop }, "Tried now") }, "Try now"),
        may("operator") && (state.phase === "frozen" ? h("button", { type: "button", onclick: () => thaw(state.next_hop) }, "Thaw") : h("button", { type: "button", onclick: () => freeze(state.next_hop) }, "Freeze")),
        may("operator") && state.route && h("button", { type: "button", onclick: () => freeze(`route ${state.route}`) }, `Freeze route ${state.route}`)));
    return h("section.card", { id: `hop-${state.next_hop}` }, h("header", {},
      h("button.plain", { type: "button", class: "who", "aria-expanded": String(is), onclick: () => { open = is ? "" : state.next_hop; draw(); } }, state.next_hop), badge(state.phase), state.route && h("span.sub", {}, `route ${state.route}`),
      h("span.space"),
      h("span.sub.nums", {}, `${number(state.waiting)}${state.more ? "+" : ""} waiting · ${state.running} of ${state.window} running (${state.limit} at most)${state.pace ? `, a message every ${Number(state.pace.toPrecision(3))} s` : ""}`), h("div", {}, ratio(state.tally))),
      state.cause && h("div.pad", {}, h("p.wait.break", {}, state.cause), state.phase === "resting" && h("p.sub.nums", {}, `Next probe ${until(state.rests_until)}`)), more);
  };
  let states = [], busy = false;
  const draw = () => {
    const shown = states.filter((state) => state.next_hop.includes(text));
    list.replaceChildren(...(shown.length ? shown.map(one) : [h("section.card", {}, empty("hosts", text ? "No next hop of that name." : "Nothing to deliver at present.", "A next hop appears here once it has mail."))]));
  };
  const refresh = async () => {
    if (busy) return;
    busy = true;
    try { states = (await get("/api/destinations", { limit: 500 })).destinations; } catch (error) { list.replaceChildren(failed(error)); busy = false; return; }
    busy = false;
    if (!list.contains(document.activeElement)) draw();
  };
  await Promise.all([refresh(), cold()]);
  draw();
  onLive(refresh);
  const search = h("input", { placeholder: "Next hop", "aria-label": "Next hop", value: text, oninput: () => { text = search.value; draw(); } });
  return [h("div.head", {}, h("h1", {}, "Destinations"), h("span.space"), h("div", {}, search)), h("div.stack", {}, frozen, list)];
}
