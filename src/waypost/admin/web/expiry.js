// Certificates and authorisations, with the days they have left.
import { badge, count, empty, get, h, stamp } from "./lib.js";

export async function expiryView() {
  const { items } = await get("/api/expiries");
  const cards = items.map((one) => {
    const colour = one.trouble || (one.ends && one.days < 3) ? "bad" : one.ends && one.days < 14 ? "wait" : "good";
    return h("section.card.tile", {}, h("div.label", {}, one.kind, h("span.space"), badge(colour === "good" ? "fine" : colour === "wait" ? "soon" : "trouble", colour)),
      h("div.days", { class: colour }, one.ends ? (one.days < 0 ? "ended" : count(one.days, "day")) : "no end"), h("p.who", {}, one.name), h("p.sub", {}, one.about), one.ends ? h("p.sub.nums", {}, "until ", stamp(one.ends)) : "", one.trouble && h("p.bad.break", {}, one.trouble));
  });
  return [h("div.head", {}, h("h1", {}, "Certificates and authorisations")), items.length ? h("div.tiles.wide", {}, cards) : h("section.card", {}, empty("key", "No certificate and no authorisation is configured.", "Those of [[certificate]] and [[oauth]] would stand here."))];
}
