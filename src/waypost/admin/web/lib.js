// What every view uses: elements, the API, words for times and numbers, dialogs. Texts are only ever set as text.

export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = `${element.className} ${value}`.trim();
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const ICONS = {
  flow: "M3 12h4l3-8 4 16 3-8h4", queue: "M4 6h16M4 12h16M4 18h10", hosts: "M4 5h16v5H4zM4 14h16v5H4zM8 7.5h.01M8 16.5h.01",
  trace: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM20 20l-4-4", inbox: "M4 13l3-8h10l3 8v6H4zM4 13h5l1 2h4l1-2h5",
  explain: "M9 9a3 3 0 1 1 4 2.8c-.7.3-1 .8-1 1.7M12 17h.01M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
  config: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4", key: "M14 10a4 4 0 1 0-3.5 4L12 15.5h2V17h2v2h3v-3z",
  alert: "M12 4l9 16H3zM12 10v4M12 17h.01", check: "M5 12l5 5 9-10", sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.5 1.5M17.5 17.5L19 19M19 5l-1.5 1.5M6.5 17.5L5 19",
  close: "M6 6l12 12M18 6L6 18", out: "M14 5H5v14h9M10 12h10M17 9l3 3-3 3",
};
export const icon = (name) => svg("svg", { viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));

// ---- the API
export class Failure extends Error {
  constructor(status, { error, remedy }) { super(error); this.status = status; this.remedy = remedy; }
}
export const me = { name: "", role: "viewer", csrf: "", asks: false };
export const may = (role) => ["viewer", "operator", "admin"].indexOf(me.role) >= ["viewer", "operator", "admin"].indexOf(role);
let lost = () => {};
export const onLost = (then) => { lost = then; };

async function ask(method, path, body) {
  const headers = method === "GET" ? {} : { "X-Waypost": "1", ...(me.csrf ? { "X-CSRF": me.csrf } : {}) };
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin" });
  } catch {
    throw new Failure(0, { error: "the service does not answer", remedy: "is it running? waypost status" });
  }
  if (response.status === 204) return null;
  const said = await response.json().catch(() => ({ error: `HTTP status ${response.status}`, remedy: "see the service's log" }));
  if (response.ok) return said;
  if (response.status === 401 && path !== "/api/login") lost();
  throw new Failure(response.status, said);
}
export const get = (path, query = {}) => {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== undefined));
  return ask("GET", asked.size ? `${path}?${asked}` : path);
};
export const post = (path, body) => ask("POST", path, body);

// ---- words
const two = (value) => String(value).padStart(2, "0");
export function when(at) {
  if (!at) return "";
  const date = new Date(at * 1000), now = new Date();
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return date.toDateString() === now.toDateString() ? time : `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`;
}
export function span(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  for (const [size, name] of units) if (seconds >= size) return `${Math.floor(seconds / size)} ${name}`;
  return `${Math.max(0, Math.round(seconds))} s`;
}
export const ago = (at) => `${span(Date.now() / 1000 - at)} ago`;
export const until = (at) => { const left = at - Date.now() / 1000; return left > 0 ? `in ${span(left)}` : "now"; };
export const count = (value, thing) => `${number(value)} ${thing}${value === 1 ? "" : "s"}`;
export const number = (value) => Math.round(value).toLocaleString("en");
export function rate(value) { return value >= 100 ? number(value) : value >= 10 ? value.toFixed(0) : value > 0 ? value.toFixed(1) : "0"; }
export function size(octets) {
  const units = ["B", "KiB", "MiB", "GiB"]; let step = 0;
  while (octets >= 1024 && step < 3) { octets /= 1024; step += 1; }
  return `${step && octets < 10 ? octets.toFixed(1) : Math.round(octets)} ${units[step]}`;
}
export const stamp = (at, text = when(at)) => h("time", { datetime: new Date(at * 1000).toISOString(), title: new Date(at * 1000).toISOString() }, text);

const COLOURS = {
  due: "info", waiting: "wait", "in delivery": "accent", held: "bad",
  idle: "", delivering: "good", stalled: "wait", probing: "wait", resting: "bad", frozen: "info",
  delivered: "good", deferred: "wait", rejected: "bad", "in doubt": "bad",
};
export const badge = (text, colour = COLOURS[text] ?? "") => h("span.badge", { class: colour }, text);
export const empty = (name, text, more = "") => h("div.empty", {}, icon(name), h("p", {}, text), more && h("p", {}, more));
export const alertBox = (colour, text, more = "") => h("div.alert", { class: colour, role: colour === "bad" ? "alert" : "status" }, icon(colour === "good" ? "check" : "alert"), h("div", {}, h("p", {}, text), more && h("p", {}, more)));
export const card = (title, body, ...ends) => h("section.card", {}, h("header", {}, h("h2", {}, title), h("span.space"), ends), body);
export const failed = (error) => alertBox("bad", error.message, error.remedy);
export function tabs(names, chosen, choose) {
  const buttons = names.map((name) => h("button", { type: "button", role: "tab", "aria-selected": String(name === chosen), onclick: () => choose(name) }, name));
  const list = h("div.tabs", { role: "tablist" }, buttons);
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) { const next = buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length]; next.focus(); next.click(); }
  });
  return list;
}

// ---- over the page
let toasts;
export function toast(text, { bad = false, undo } = {}) {
  toasts ??= document.body.appendChild(h("div.toasts", { role: "status", "aria-live": "polite" }));
  const shown = h("div.toast", { class: bad ? "bad" : "" }, h("span", {}, text), undo && h("button", { type: "button", onclick: () => { shown.remove(); undo(); } }, "Undo"));
  toasts.append(shown);
  setTimeout(() => shown.remove(), undo ? 12000 : 6000);
}
export function dialog(content, kind = "") {
  const shown = h("dialog", { class: kind }, content);
  document.body.append(shown);
  shown.addEventListener("close", () => shown.remove());
  shown.addEventListener("click", (event) => { if (event.target === shown) shown.close(); });
  shown.showModal();
  return shown;
}
// Asks for what an action needs; resolves to the fields, or to null where nobody agreed.
export function confirm(title, text, { fields = [], button = "Do it", danger = false } = {}) {
  return new Promise((resolve) => {
    const inputs = fields.map((field) => h("label", {}, field.label, h("input", { name: field.name, required: field.required, placeholder: field.placeholder, list: field.options && `list-${field.name}`, autocomplete: "off" }), field.options && h("datalist", { id: `list-${field.name}` }, field.options.map((value) => h("option", { value })))));
    let answer = null;
    const form = h("form", { method: "dialog", onsubmit: () => { answer = Object.fromEntries(new FormData(form)); } }, h("h1", {}, title), h("p.soft.break", {}, text), inputs, h("div.ends", {}, h("button", { type: "button", onclick: () => shown.close() }, "Cancel"), h("button.primary", { type: "submit", class: danger ? "danger" : "" }, button)));
    const shown = dialog(form);
    shown.addEventListener("close", () => resolve(answer));
    (form.querySelector("input") ?? form.querySelector(".primary")).focus();
  });
}
export function progress(title, total) {
  const bar = h("progress", { max: total, value: 0 }), text = h("p.soft.nums", {}, "");
  const shown = dialog(h("form", { method: "dialog" }, h("h1", {}, title), bar, text));
  return { step: (done) => { bar.value = done; text.textContent = `${number(done)} of ${number(total)}`; }, done: () => shown.close() };
}
