// The frame: who is logged in, where we are, what is live. Each view is a module of its own.
import { alertBox, badge, dialog, failed, get, h, icon, me, number, onLost, post, toast } from "./lib.js";
import { flowView } from "./flow.js";
import { queueView } from "./queue.js";
import { hostsView } from "./hosts.js";
import { traceView } from "./trace.js";
import { inboxView } from "./inbox.js";
import { explainView } from "./explain.js";
import { configView } from "./config.js";
import { expiryView } from "./expiry.js";

const VIEWS = [
  { name: "flow", text: "Flow", icon: "flow", view: flowView },
  { name: "queue", text: "Queue", icon: "queue", view: queueView },
  { name: "destinations", text: "Destinations", icon: "hosts", view: hostsView },
  { name: "trace", text: "Trace", icon: "trace", view: traceView },
  { name: "inbox", text: "Inbox", icon: "inbox", view: inboxView },
  { name: "explain", text: "Explain", icon: "explain", view: explainView },
  { name: "config", text: "Config", icon: "config", view: configView },
  { name: "expiry", text: "Certificates", icon: "key", view: expiryView },
];
const app = document.getElementById("app");
const live = new EventTarget();
let latest = null, stream = null, leave = () => {}, main, nav;

// ---- the theme: the system's, unless somebody chose
function theme(choice = localStorage.getItem("theme")) {
  const dark = choice ? choice === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme());
theme();

// ---- who asks
async function start() {
  try {
    Object.assign(me, await get("/api/session"));
  } catch (error) {
    if (error.status === 401) return gate();
    return app.replaceChildren(h("div.gate", {}, failed(error)));
  }
  frame();
  listen();
  route();
}

function gate() {
  stream?.close();
  document.querySelectorAll("dialog").forEach((open) => open.close());
  const said = h("div", { "aria-live": "assertive" });
  const form = h("form.form", { onsubmit: async (event) => {
    event.preventDefault();
    const fields = Object.fromEntries(new FormData(form));
    form.querySelector("button").disabled = true;
    try { await post("/api/login", fields); await start(); }
    catch (error) { said.replaceChildren(failed(error)); form.querySelector("button").disabled = false; form.elements.password.select(); }
  } },
    h("label", {}, "Name", h("input", { name: "name", autocomplete: "username", required: true, autocapitalize: "none" })),
    h("label", {}, "Password", h("input", { name: "password", type: "password", autocomplete: "current-password", required: true })),
    said, h("button.primary", { type: "submit" }, "Log in"));
  app.replaceChildren(h("main.gate", { id: "main" }, h("section.card", {}, h("div.brand", {}, h("img", { src: "/web/icon.svg", alt: "" }), "Waypost"), form)));
  form.elements.name.focus();
}
onLost(gate);

// ---- the frame
function frame() {
  main = h("main", { id: "main", tabindex: "-1" });
  nav = h("nav.nav", { "aria-label": "Views" }, h("ul", {}, VIEWS.map((one) => h("li", {}, h("a", { href: `#/${one.name}`, id: `nav-${one.name}` }, icon(one.icon), h("span", {}, one.text), h("span.count", { hidden: true }))))));
  const out = me.asks && h("button.plain", { type: "button", title: "Log out", "aria-label": "Log out", onclick: async () => { await post("/api/logout"); gate(); } }, icon("out"));
  const swap = h("button.plain", { type: "button", title: "Light or dark", "aria-label": "Light or dark", onclick: () => {
    localStorage.setItem("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark"); theme();
  } }, icon("sun"));
  const foot = h("div.foot", {}, h("div.row", {}, h("span", { id: "pulse" }, h("i.pulse"), "connecting"), h("span", {}, swap, out)), h("div.who-am-i", {}, me.asks ? `${me.name}, ${me.role}` : "local, not asked to log in"));
  app.replaceChildren(h("div.shell", {}, h("div.side", {}, h("div.brand", {}, h("img", { src: "/web/icon.svg", alt: "" }), h("span", {}, "Waypost", h("small", { id: "host" }))), nav, foot), main));
}

function listen() {
  stream?.close();
  stream = new EventSource("/api/events");
  stream.addEventListener("live", (event) => {
    latest = JSON.parse(event.data);
    pulse(true);
    live.dispatchEvent(new CustomEvent("live", { detail: latest }));
  });
  stream.onerror = () => pulse(false);
}

function pulse(up) {
  const place = document.getElementById("pulse");
  if (!place) return;
  place.replaceChildren(h("i.pulse", { class: up ? "live" : "down" }), up ? "live" : "lost, trying again");
  if (!latest) return;
  document.getElementById("host").textContent = latest.status.service.hostname;
  mark("queue", latest.status.recipients ? number(latest.status.recipients) : "");
  const troubled = latest.destinations.destinations.filter((one) => ["resting", "held", "stalled"].includes(one.phase)).length;
  mark("destinations", troubled || "", troubled > 0);
  const alerts = latest.status.not_ready.length + latest.status.warnings.length;
  mark("flow", alerts || "", alerts > 0);
}

function mark(name, text, alarm = false) {
  const place = document.querySelector(`#nav-${name} .count`);
  if (!place) return;
  place.hidden = text === ""; place.textContent = text; place.classList.toggle("alarm", alarm);
}

// ---- where we are: #/queue, #/trace/1dvq…, #/queue?state=held
async function route() {
  if (!main) return;
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name = "flow", ...rest] = path.split("/").map(decodeURIComponent);
  const chosen = VIEWS.find((one) => one.name === name) ?? VIEWS[0];
  leave();
  for (const link of nav.querySelectorAll("a")) {
    if (link.id === `nav-${chosen.name}`) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = `${chosen.text} · Waypost`;
  const listeners = [];
  const context = {
    rest: rest.filter(Boolean), query: new URLSearchParams(query), latest: () => latest,
    onLive: (then) => { const heard = (event) => then(event.detail); live.addEventListener("live", heard); listeners.push(heard); if (latest) then(latest); },
  };
  leave = () => { listeners.forEach((heard) => live.removeEventListener("live", heard)); leave = () => {}; };
  try { main.replaceChildren(...[await chosen.view(context)].flat()); }
  catch (error) { main.replaceChildren(failed(error)); }
}
addEventListener("hashchange", () => { route(); main?.focus({ preventScroll: true }); scrollTo(0, 0); });

// ---- the keyboard
const KEYS = { f: "flow", q: "queue", d: "destinations", t: "trace", i: "inbox", e: "explain", c: "config", k: "expiry" };
let going = false;
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  if (going) { going = false; if (KEYS[event.key]) location.hash = `#/${KEYS[event.key]}`; return; }
  if (event.key === "g") { going = true; setTimeout(() => { going = false; }, 1500); }
  if (event.key === "/") { event.preventDefault(); main?.querySelector("input")?.focus(); }
  if (event.key === "?") keys();
});
function keys() {
  const rows = Object.entries(KEYS).map(([key, name]) => [h("dt", {}, h("kbd", {}, "g"), " ", h("kbd", {}, key)), h("dd", {}, VIEWS.find((one) => one.name === name).text)]);
  dialog(h("form", { method: "dialog" }, h("h1", {}, "Keys"), h("dl.facts", {}, rows, h("dt", {}, h("kbd", {}, "/")), h("dd", {}, "Search or filter"), h("dt", {}, h("kbd", {}, "?")), h("dd", {}, "This")), h("div.ends", {}, h("button.primary", {}, "Close"))));
}
addEventListener("unhandledrejection", (event) => { toast(event.reason?.message ?? "Something went wrong", { bad: true }); });
start();
