// What would become of a message: asked of the code that live mail runs, step by step.
import { alertBox, badge, card, failed, h, post } from "./lib.js";

export async function explainView({ query }) {
  const answer = h("div.stack");
  const field = (name, label, value, placeholder) => h("label", {}, label, h("input", { name, value, placeholder, autocomplete: "off" }));
  const form = h("form.form", { onsubmit: async (event) => {
    event.preventDefault();
    const said = Object.fromEntries(new FormData(form));
    try { answer.replaceChildren(...told(await post("/api/explain", { recipients: said.recipients.split(/[\s,;]+/).filter(Boolean), client: said.client, account: said.account, reverse_path: said.reverse_path }))); }
    catch (error) { answer.replaceChildren(failed(error)); }
  } }, h("div.cols", {},
    field("recipients", "Recipients", query.get("to") ?? "", "someone@example.com"), field("reverse_path", "From", "", "empty for <>"),
    field("client", "Client's address", "127.0.0.1", "192.0.2.1"), field("account", "Account it logs in with", "", "nobody")), h("div", {}, h("button.primary", { type: "submit" }, "Explain")));
  return [h("div.head", {}, h("h1", {}, "Explain"), h("span.soft", {}, "What would become of a message. Nothing is sent.")), h("div.stack", {}, h("section.card", {}, h("div.pad", {}, form)), answer)];
}

function told(answer) {
  const session = card("The session", h("div.pad", {}, steps(answer.facts)), answer.is_taken ? badge("may send", "good") : badge("refused", "bad"));
  return [session, ...answer.journeys.map((one) => card(one.recipient, h("div.pad.stack", {}, h("p.mono.break", { class: one.is_taken ? "good" : "bad" }, one.reply), steps(one.facts), one.legs.map((leg) => h("div", {}, h("h3.break", {}, `To ${leg.recipient}`), steps(leg.facts)))), one.is_taken ? badge("taken", "good") : badge("refused", "bad")))];
}
const steps = (facts) => h("ol.life", {}, facts.map((fact) => h("li", { class: fact.stops ? "bad" : "good" }, h("p", {}, h("b", {}, fact.step), fact.place && h("span.faint", {}, `  ${fact.place}`)), h("p.break.soft", {}, fact.text), fact.details.map((line) => h("p.sub.mono", {}, line)))));
