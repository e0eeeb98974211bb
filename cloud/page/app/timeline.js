import { choice, h, put, s } from "./dom.js";
import { now } from "./state.js";
import { clock, count, percent, real, span, stamp, whole } from "./words.js";

// A camera's day on one axis. Drag over a part to look into it; with the keyboard, the arrows move the cursor, + and − zoom, 0 shows the whole day.

const LEFT = 44, RIGHT = 10, STEPS = [60, 120, 300, 600, 1800, 3600], NARROWEST = 900, CLASSES_SHOWN = 5;
const LANES = [["rate", "forwarded, % of frames seen", 96], ["accuracy", "accuracy: mean AP of the last audits", 64], ["found", "boxes in forwarded frames", 64], ["pace", "keeping up: % of frames looked at", 36], ["rounds", "rounds", 20], ["models", "models and link", 22]];

export function timeline() {
  const area = h("div", { class: "timeline", tabindex: 0, role: "group", "aria-label": "the day on one axis: arrows move the cursor, plus and minus zoom, 0 shows the whole day" }), read = h("p", { class: "small readout", role: "status" }), classes = h("span", { class: "legend" });
  const zooms = choice("how much of the day", { day: "day", six: "6 hours", hour: "hour" }, "day", part => look(day.until - { day: 86400, six: 21600, hour: 3600 }[part], day.until));
  const button = (text, label, done) => h("button", { "aria-label": label, onclick: done }, text);
  const node = h("div", {}, h("div", { class: "bar" }, zooms, button("◀", "earlier", () => shift(-0.5)), button("▶", "later", () => shift(0.5)), button("−", "zoom out", () => zoom(2)), button("+", "zoom in", () => zoom(0.5)), h("span", { class: "push" }, classes)), area, read);
  let day = null, from = 0, to = 0, cursor = null, pressed = null, plot = null;

  function look(first, last) {
    const wide = Math.min(86400, Math.max(NARROWEST, last - first)), middle = (first + last) / 2;
    to = Math.min(day.until, middle + wide / 2);
    from = Math.max(day.since, to - wide);
    to = from + wide;
    draw();
  }
  const shift = part => look(from + part * (to - from), to + part * (to - from));
  function zoom(by) {
    const middle = cursor ?? (from + to) / 2;
    look(middle - by * (middle - from), middle + by * (to - middle));
  }
  function news(fresh) {
    const whole = !day || to - from > 86000, at = day && to >= day.until - 90;
    day = fresh;
    if (whole) { from = day.since; to = day.until; } else if (at) { from += day.until - to; to = day.until; }
    draw();
  }
  // What is in each bin of the part that is looked at.
  function binned() {
    const step = STEPS.find(one => (to - from) / one <= Math.max(40, area.clientWidth / 7)) || 3600, start = Math.floor(from / step) * step;
    const bins = Array.from({ length: Math.ceil((to - start) / step) }, (_, at) => ({ t: start + at * step, heard: 0, seen: 0, taken: 0, missed: 0, by: {}, found: {} }));
    const bin = t => bins[Math.floor((t - start) / step)];
    for (const [t, seen, taken, missed, ...by] of day.minutes) {
      const one = bin(t);
      if (!one) continue;
      one.heard += 1; one.seen += seen; one.taken += taken; one.missed += missed;
      day.reasons.forEach((reason, at) => { one.by[reason] = (one.by[reason] || 0) + by[at]; });
    }
    for (const [t, label, number] of day.found) { const one = bin(t); if (one) one.found[label] = (one.found[label] || 0) + number; }
    return { bins, step };
  }
  function draw() {
    if (!day) return;
    const width = Math.max(280, area.clientWidth), tall = LANES.reduce((sum, lane) => sum + lane[2] + 24, 0) + 26, { bins, step } = binned();
    const x = t => LEFT + (t - from) / (to - from) * (width - LEFT - RIGHT), wide = Math.max(1, step / (to - from) * (width - LEFT - RIGHT) - 1);
    const svg = s("svg", { viewBox: `0 0 ${width} ${tall}`, width, height: tall, "aria-hidden": "true" }), places = {};
    let y = 0;
    for (const [name, title, high] of LANES) {
      svg.append(s("text", { x: 0, y: y + 14 }, title));
      places[name] = [y + 20, y + 20 + high];
      y += high + 24;
    }
    const totals = new Map();
    for (const [, label, number] of day.found) totals.set(label, (totals.get(label) || 0) + number);
    const ranked = [...totals].sort((a, b) => b[1] - a[1]).map(one => one[0]), shown = ranked.slice(0, CLASSES_SHOWN);
    const style = label => shown.includes(label) ? `c${shown.indexOf(label)}` : "c-rest";
    classes.replaceChildren(...day.reasons.map(reason => h("span", {}, h("i", { class: reason }), reason)), ...shown.map(label => h("span", {}, h("i", { class: style(label) }), label)));
    const ours = s("g", { "clip-path": null });
    const inside = t => t >= from - step && t <= to;
    const scaleOf = (name, top, unit) => {
      const [up, down] = places[name];
      for (const part of [0, 1]) {
        const at = down - part * (down - up);
        svg.append(s("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }), s("text", { x: LEFT - 5, y: at + (part ? 10 : 2), "text-anchor": "end" }, unit(part * top)));
      }
      return value => down - Math.min(1, value / top) * (down - up);
    };
    const sent = bin => day.reasons.reduce((sum, reason) => sum + (bin.by[reason] || 0), 0);
    const topRate = Math.max(0.0001, ...bins.filter(bin => bin.seen).map(bin => sent(bin) / bin.seen)), rateY = scaleOf("rate", topRate, value => value ? +(100 * value).toPrecision(2) : 0);
    const topFound = Math.max(1, ...bins.map(bin => Object.values(bin.found).reduce((a, b) => a + b, 0))), foundY = scaleOf("found", topFound, value => value);
    const paceY = scaleOf("pace", 1, value => 100 * value), rightY = scaleOf("accuracy", 1, value => value);
    const stack = (bin, parts, height) => {
      let sum = 0;
      for (const [style, value] of parts) {
        if (!value) continue;
        const low = height(sum), high = height(sum += value), left = Math.max(LEFT, x(bin.t)), right = Math.min(width - RIGHT, x(bin.t) + wide);
        if (right > left) ours.append(s("rect", { class: style, x: left, width: right - left, y: high, height: Math.max(0.5, low - high) }));
      }
    };
    const [linkUp, linkDown] = places.models, begun = day.minutes[0]?.[0] ?? day.until;
    for (const bin of bins.filter(bin => inside(bin.t))) {
      if (bin.seen) {
        stack(bin, day.reasons.map(reason => [reason, (bin.by[reason] || 0) / bin.seen]), rateY);
        const looked = bin.taken + bin.missed ? bin.taken / (bin.taken + bin.missed) : 0;
        stack(bin, [[looked < 0.8 ? "bar-bad" : "bar", looked]], paceY);
      } else if (!bin.heard && bin.t > begun && bin.t + step < day.until - 60) {
        const left = Math.max(LEFT, x(bin.t));
        ours.append(s("rect", { class: "outage", x: left, width: Math.max(1, x(bin.t) + wide + 1 - left), y: places.rate[0], height: linkDown - places.rate[0] }, s("title", {}, "nothing heard")));
      }
      stack(bin, [...shown, ...ranked.slice(CLASSES_SHOWN)].map(label => [style(label), bin.found[label] || 0]), foundY);
    }
    const points = day.audits.filter(([t]) => t >= from && t <= to);
    if (points.length > 1) ours.append(s("polyline", { class: "curve", points: points.map(([t, ap]) => `${x(t)},${rightY(ap)}`).join(" ") }));
    for (const [t, ap] of points) ours.append(s("circle", { class: "dot", cx: x(t), cy: rightY(ap), r: 2 }));
    for (const turn of day.rounds.filter(turn => (turn.finished ?? day.until) > from && turn.started < to)) {
      const left = Math.max(LEFT, x(turn.started)), right = Math.min(width - RIGHT, x(turn.finished ?? day.until)), [up] = places.rounds;
      ours.append(s("rect", { class: `turn ${turn.state}`, x: left, width: Math.max(3, right - left), y: up, height: 18, rx: 2 }, s("title", {}, roundWords(turn))));
      if (right - left > 24) ours.append(s("text", { class: "on-turn", x: left + 4, y: up + 13 }, turn.id));
    }
    const heard = day.minutes.length ? Math.max(LEFT, x(begun)) : width;
    ours.append(s("line", { class: "link-line", x1: heard, x2: x(Math.min(to, day.until)), y1: linkDown, y2: linkDown }));
    let named = -1;  // where the last name ends: one that does not fit beside it is left out, and is read at the cursor
    for (const swap of day.swaps.filter(swap => swap.at >= from && swap.at <= to)) {
      const at = x(swap.at), good = swap.outcome === "live", name = `${swap.model_id}${good ? "" : ` ${swap.outcome}`}`, long = 7 * name.length, late = at + long > width - RIGHT, left = late ? at - 4 - long : at + 4, fits = left > named;
      if (fits) named = left + long;
      ours.append(s("g", { class: "swap" }, s("line", { class: good ? "mark" : "mark bad", x1: at, x2: at, y1: places.rate[0], y2: linkDown }),
        fits ? s("text", { class: "strong", x: late ? at - 4 : at + 4, y: linkUp + 12, "text-anchor": late ? "end" : "start" }, name) : null, s("title", {}, swapWords(swap))));
    }
    const ticks = Math.max(2, Math.floor((width - LEFT) / 110));
    for (let at = 0; at <= ticks; at++) svg.append(s("text", { x: x(from + (to - from) * at / ticks), y: tall - 6, "text-anchor": at === ticks ? "end" : at ? "middle" : "start" }, clock(from + (to - from) * at / ticks)));
    const line = s("line", { class: "cursor", y1: 16, y2: tall - 22, visibility: "hidden" }), band = s("rect", { class: "band", y: 16, height: tall - 38, visibility: "hidden" });
    svg.append(ours, band, line);
    area.replaceChildren(svg);
    plot = { x, bins, step, line, band, sent, time: event => from + (event.clientX - area.getBoundingClientRect().left - LEFT) / (width - LEFT - RIGHT) * (to - from) };
    point();
  }
  function point() {
    const bin = plot.bins.find(bin => cursor != null && cursor >= bin.t && cursor < bin.t + plot.step);
    plot.line.setAttribute("visibility", bin ? "visible" : "hidden");
    if (!bin) { put(read, `${stamp(from)} to ${clock(to)}, local time. ${count(day.frames, "frame")} of the day forwarded and stored.`); return; }
    for (const side of ["x1", "x2"]) plot.line.setAttribute(side, plot.x(bin.t + plot.step / 2));
    put(read, words(bin));
  }
  function words(bin) {
    const swap = day.swaps.find(swap => swap.at >= bin.t && swap.at < bin.t + plot.step), turn = day.rounds.find(turn => turn.started < bin.t + plot.step && (turn.finished ?? day.until) >= bin.t), audit = day.audits.filter(([t]) => t <= bin.t + plot.step).at(-1);
    const by = day.reasons.filter(reason => bin.by[reason]).map(reason => `${bin.by[reason]} ${reason}`).join(", "), found = Object.entries(bin.found).sort((a, b) => b[1] - a[1]).map(([label, number]) => `${number} ${label}`).join(", ");
    return `${clock(bin.t)} to ${clock(bin.t + plot.step)}: ` + [bin.seen ? `${percent(plot.sent(bin) / bin.seen)} of ${whole(bin.seen)} frames forwarded${by ? ` (${by})` : ""}` : "nothing heard", bin.taken + bin.missed ? `${percent(bin.taken / (bin.taken + bin.missed))} looked at` : "",
      audit ? `accuracy ${real(audit[1])}` : "", found ? `found ${found}` : "", turn ? roundWords(turn) : "", swap ? swapWords(swap) : ""].filter(Boolean).join("; ");
  }
  area.addEventListener("pointermove", event => {
    if (!plot) return;
    cursor = plot.time(event);
    if (pressed != null) {
      plot.band.setAttribute("visibility", "visible");
      plot.band.setAttribute("x", plot.x(Math.min(pressed, cursor)));
      plot.band.setAttribute("width", Math.abs(plot.x(cursor) - plot.x(pressed)));
    }
    point();
  });
  area.addEventListener("pointerdown", event => { if (plot && event.pointerType === "mouse") pressed = plot.time(event); });
  area.addEventListener("pointerup", () => { if (pressed != null && Math.abs(cursor - pressed) > 120) look(Math.min(pressed, cursor), Math.max(pressed, cursor)); else if (plot) plot.band.setAttribute("visibility", "hidden"); pressed = null; });
  area.addEventListener("pointerleave", () => { if (!plot) return; cursor = pressed = null; plot.band.setAttribute("visibility", "hidden"); point(); });
  area.addEventListener("dblclick", () => look(day.since, day.until));
  area.addEventListener("keydown", event => {
    if (!plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], by = { "+": 0.5, "=": 0.5, "-": 2 }[event.key];
    if (step) { cursor = Math.min(to - 1, Math.max(from, (cursor ?? (step > 0 ? from - plot.step : to)) + step * plot.step)); point(); } else if (by) zoom(by); else if (event.key === "0") look(day.since, day.until); else if (event.key === "Home") { cursor = from; point(); } else if (event.key === "End") { cursor = to - 1; point(); } else return;
    event.preventDefault();
  });
  return { node, news, draw };
}
const roundWords = turn => `round ${turn.id} (${turn.trigger}) ${turn.finished ? `${turn.state} after ${span(turn.finished - turn.started)}` : `running for ${span(now() - turn.started)}`}`;
const swapWords = swap => `${swap.model_id} ${swap.outcome} at ${clock(swap.at)}${swap.reason ? `: ${swap.reason}` : ""}, gap ${span(swap.gap_ms / 1000)}`;
