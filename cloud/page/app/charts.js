import { h, s } from "./dom.js";
import { now, state } from "./state.js";
import { REASONS, dayOf, total } from "./sums.js";
import { percent, real, whole } from "./words.js";

// Charts: drawn to the pixel width they have, so that their text keeps its size

function nice(top) {
  if (!(top > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(top));
  return [1, 2, 2.5, 5, 10].find(step => step * power >= top * 0.999) * power;
}
function frameOf(width, height, top, unit, label, left = 46) {
  const box = { left, right: width - 8, top: 30, bottom: height - 34, width, height };
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  for (const part of [0, 0.5, 1]) {
    const y = box.bottom - part * (box.bottom - box.top), value = part * top;
    svg.append(s("line", { class: "axis", x1: box.left, x2: box.right, y1: y, y2: y }));
    svg.append(s("text", { x: box.left - 6, y: y + 4, "text-anchor": "end" }, short(value)));
  }
  svg.append(s("text", { x: 0, y: 12 }, unit));
  return [svg, box];
}
const short = value => value === 0 ? "0" : value >= 1e6 ? `${+(value / 1e6).toPrecision(3)}M` : value >= 1e4 ? `${+(value / 1e3).toPrecision(3)}k` : `${+value.toPrecision(3)}`;

export function lossChart(width, buckets, losses, threshold) {
  const sum = losses.reduce((a, b) => a + b, 0) || 1, shares = losses.map(count => 100 * count / sum);
  const top = nice(Math.max(...shares)), [svg, box] = frameOf(width, 230, top, "% of scored frames", "Histogram of the confidence loss");
  const wide = (box.right - box.left) / losses.length, every = Math.ceil(30 / wide);
  shares.forEach((share, at) => {
    const tall = share / top * (box.bottom - box.top), from = at ? buckets[at - 1] : 0;
    svg.append(s("rect", { class: "hard", x: box.left + at * wide + 1, width: wide - 2, y: box.bottom - tall, height: tall },
      s("title", {}, `${from} to ${buckets[at] ?? "more"}: ${whole(losses[at])} frames`)));
    if (at % every === 0) svg.append(s("text", { x: box.left + at * wide, y: box.bottom + 16, "text-anchor": "middle" }, short(from)));
  });
  svg.append(s("text", { x: box.right, y: box.bottom + 31, "text-anchor": "end" }, "confidence loss (lower edge of each bucket)"));
  if (threshold > 0) {
    let at = buckets.findIndex(edge => threshold < edge);
    if (at < 0) at = buckets.length;
    const low = at ? buckets[at - 1] : 0, high = buckets[at] ?? 2 * low, x = box.left + (at + Math.min(1, (threshold - low) / (high - low))) * wide;
    const late = x > box.right - 110;
    svg.append(s("line", { class: "mark", x1: x, x2: x, y1: box.top - 4, y2: box.bottom }),
      s("text", { class: "strong", x: late ? x - 4 : x + 4, y: box.top + 6, "text-anchor": late ? "end" : "start" }, `threshold ${real(threshold)}`));
  }
  return svg;
}
export function lineChart(width, points, unit, below, label, chosen) {
  const top = nice(Math.max(...points.map(point => point[1]), 1e-9)), [svg, box] = frameOf(width, 190, top, unit, label);
  const xs = points.map(point => point[0]), low = Math.min(...xs), high = Math.max(...xs), reach = high - low || 1;
  const x = value => box.left + (value - low) / reach * (box.right - box.left), y = value => box.bottom - value / top * (box.bottom - box.top);
  svg.append(s("polyline", { class: "curve", points: points.map(point => `${x(point[0])},${y(point[1])}`).join(" ") }));
  if (points.length < 25) for (const point of points) {
    const mine = chosen != null && Math.abs(point[0] - chosen) < 1e-6;
    svg.append(s("circle", { class: mine ? "chosen" : "dot", cx: x(point[0]), cy: y(point[1]), r: mine ? 5.5 : 2.5 }, s("title", {}, `${short(point[0])}: ${short(point[1])}`)));
  }
  const marks = points.length < 12 ? xs : [0, 0.25, 0.5, 0.75, 1].map(part => low + part * reach);
  let last = -99;
  for (const mark of [...marks].sort((a, b) => a - b)) {
    if (x(mark) - last < 38) continue;
    last = x(mark);
    svg.append(s("text", { x: last, y: box.bottom + 16, "text-anchor": last > box.right - 14 ? "end" : "middle" }, short(+mark.toFixed(2))));
  }
  svg.append(s("text", { x: box.right, y: box.bottom + 31, "text-anchor": "end" }, below));
  return svg;
}
// A camera's day in 48 bars. What was before it was first heard is blank; an outage after that is a line in the middle.
export function spark(camera, top) {
  const { slots } = dayOf(camera), peak = Math.max(...slots.map(slot => slot.seen ? total(slot) / slot.seen : 0), 0);
  const end = Math.floor(now() / 1800) * 1800 + 1800, first = end - 86400;
  const svg = s("svg", { viewBox: "0 0 480 32", preserveAspectRatio: "none", role: "img", "aria-label": `forwarded over the day, at most ${percent(peak)} in half an hour` });
  const have = new Map(slots.map(slot => [Math.round((slot.t - first) / 1800), slot]));
  const begun = Math.min(...have.keys(), 48), heardLately = state.cameras.get(camera)?.heard >= end - 1800;
  for (let at = begun; at < 48; at++) {
    const slot = have.get(at);
    if (!slot?.seen) {
      if (!(at === 47 && heardLately)) svg.append(s("line", { class: "gap", x1: at * 10, x2: at * 10 + 10, y1: 31, y2: 31 }, s("title", {}, "nothing heard")));
      continue;
    }
    svg.append(s("rect", { class: "base", x: at * 10, width: 9, y: 31, height: 1 }));
    const scale = 28 / Math.max(top, total(slot) / slot.seen);
    let y = 31;
    for (const reason of REASONS) {
      const tall = slot[reason] / slot.seen * scale;
      if (tall) { y -= tall; svg.append(s("rect", { class: reason, x: at * 10, width: 9, y, height: tall })); }
    }
    if (total(slot) / slot.seen > top) svg.append(s("rect", { class: "over-top", x: at * 10, width: 9, y: 0, height: 3 }));
  }
  return svg;
}
export const legend = extra => h("span", { class: "legend" }, REASONS.map(reason => h("span", {}, h("i", { class: reason }), reason)), h("span", {}, h("i", { class: "gap" }), "nothing heard"), extra);
