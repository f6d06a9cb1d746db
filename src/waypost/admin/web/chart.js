// A line chart of our own: series over time, with a crosshair that tells the values. No library is loaded for it.
import { h, svg, rate } from "./lib.js";

const HEIGHT = 190, LEFT = 42, RIGHT = 8, TOP = 8, BOTTOM = 22;

// series: [{ name, colour: "s1", points: [[at, value]…], area }]
export function chart(series, { label, unit = "", waiting = "The first points come in a few seconds." } = {}) {
  const figure = h("figure.chart", { role: "img", "aria-label": label });
  const draw = () => {
    const width = Math.max(280, figure.clientWidth || 600);
    figure.replaceChildren(...content(series, width, unit, waiting, figure));
  };
  new ResizeObserver(draw).observe(figure);
  return figure;
}

function content(series, width, unit, waiting, figure) {
  const all = series.flatMap((one) => one.points);
  const frame = svg("svg", { height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` });
  if (all.length < 2 * series.length) return [frame, h("div.waiting", {}, waiting)];
  const from = Math.min(...all.map(([at]) => at)), to = Math.max(...all.map(([at]) => at));
  const top = ceiling(Math.max(...all.map(([, value]) => value)));
  const x = (at) => LEFT + ((at - from) / (to - from || 1)) * (width - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
  for (const part of [0, 0.5, 1]) {
    frame.append(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(top * part), y2: y(top * part) }));
    const text = svg("text", { x: LEFT - 8, y: y(top * part) + 4, "text-anchor": "end" });
    text.textContent = rate(top * part);
    frame.append(text);
  }
  const marks = width < 500 ? 3 : 6;
  for (let mark = 0; mark < marks; mark += 1) {
    const at = from + ((to - from) * mark) / (marks - 1);
    const text = svg("text", { x: x(at), y: HEIGHT - 4, "text-anchor": mark === 0 ? "start" : mark === marks - 1 ? "end" : "middle" });
    text.textContent = new Date(at * 1000).toTimeString().slice(0, to - from < 600 ? 8 : 5);
    frame.append(text);
  }
  for (const one of series) {
    const line = one.points.map(([at, value], index) => `${index ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    if (one.area) frame.append(svg("path", { class: `area ${one.colour}`, stroke: "none", d: `${line}L${x(one.points.at(-1)[0])} ${y(0)}L${x(one.points[0][0])} ${y(0)}Z` }));
    frame.append(svg("path", { class: `line ${one.colour}`, d: line }));
  }
  const cross = svg("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  frame.append(cross);
  const tip = h("div.tip", { hidden: true });
  figure.onpointermove = (event) => point(event, figure, series, { x, from, to, width, cross, tip, unit });
  figure.onpointerleave = () => { tip.hidden = true; cross.setAttribute("visibility", "hidden"); };
  return [frame, tip];
}

function point(event, figure, series, { x, from, to, width, cross, tip, unit }) {
  const box = figure.getBoundingClientRect();
  const at = from + ((event.clientX - box.left - LEFT) / (width - LEFT - RIGHT)) * (to - from);
  const near = (points) => points.reduce((best, one) => (Math.abs(one[0] - at) < Math.abs(best[0] - at) ? one : best));
  const [moment] = near(series[0].points);
  cross.setAttribute("x1", x(moment)); cross.setAttribute("x2", x(moment)); cross.setAttribute("visibility", "visible");
  tip.replaceChildren(h("div.faint", {}, new Date(moment * 1000).toTimeString().slice(0, 8)), ...series.map((one) => h("div", {}, `${one.name} `, h("b", {}, `${rate(near(one.points)[1])}${unit}`))));
  tip.hidden = false;
  tip.style.left = `${Math.min(x(moment) + 12, width - tip.offsetWidth - 4)}px`;
}

function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 8, 10].map((step) => step * power).find((step) => step >= value);
}

export const legend = (series) => h("div.legend", {}, series.map((one) => h("span", {}, h("i", { class: one.colour }), one.name)));
