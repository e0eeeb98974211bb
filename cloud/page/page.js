"use strict";
// Every address is relative: a proxy may serve the page below any path. The token is kept by path, for pages that share a host.
const TOKEN = `culling token ${location.pathname}`;
// Everything is made with textContent and attributes, never from markup, so that a camera's name is always shown as text.
const REASONS = ["hard", "audit", "bootstrap", "manual"];
const $ = id => document.getElementById(id);
const state = { cameras: new Map(), sparks: {}, skew: 0, heardAt: 0, actions: false, token: sessionStorage.getItem(TOKEN) || "" };

function h(tag, props, ...kids) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...kids.flat().filter(kid => kid != null && kid !== false));
  return node;
}
function s(tag, props, ...kids) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(props || {})) if (value != null) node.setAttribute(key, value);
  node.append(...kids.flat().filter(kid => kid != null));
  return node;
}

// Numbers for people

const now = () => Date.now() / 1000 + state.skew;
const whole = value => Math.round(value).toLocaleString("en");
const percent = share => share == null ? "–" : share === 0 ? "0 %"
  : `${(100 * share).toFixed(share < 0.001 ? 3 : share < 0.0995 ? 2 : 1)} %`;
const real = (value, digits = 2) => value == null ? "–" : value.toFixed(digits);
function bytes(value) {
  if (value == null) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < 4) { value /= 1000; at++; }
  return `${value.toFixed(at && value < 10 ? 1 : 0)} ${units[at]}`;
}
function span(seconds) {
  if (seconds == null) return "–";
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 100) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}
const ago = at => { const age = Math.max(0, now() - at); return age < 10 ? "now" : `${span(age)} ago`; };
const clock = (at, seconds) => new Date(1000 * at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined });
const stamp = at => at == null ? "–" : `${new Date(1000 * at).toLocaleDateString("en-GB", { day: "2-digit", month: "short" })} ${clock(at)}`;
const total = slot => REASONS.reduce((sum, reason) => sum + (slot[reason] || 0), 0);
const WORDS = { live: "live", frozen: "frozen", down: "down", ended: "ended", unseen: "never seen", revoked: "revoked" };

function dayOf(camera) {
  const slots = state.sparks[camera] || [], seen = slots.reduce((sum, slot) => sum + slot.seen, 0);
  const sent = slots.reduce((sum, slot) => sum + total(slot), 0);
  return { slots, seen, sent, rate: seen ? sent / seen : null };
}

function fleetNow() {
  const rows = [...state.cameras.values()], add = (list, of) => list.reduce((sum, one) => sum + of(one), 0);
  const telling = rows.filter(row => row.fps != null && row.rate != null), fps = add(telling, row => row.fps);
  const days = rows.map(row => dayOf(row.camera)), seen = add(days, day => day.seen);
  return {
    rows, fps: telling.length ? fps : null, rate: fps ? add(telling, row => row.rate * row.fps) / fps : null,
    day: seen ? add(days, day => day.sent) / seen : null, live: rows.filter(row => row.state === "live").length,
    down: rows.filter(row => ["down", "frozen"].includes(row.state)).length,
    told: rows.filter(row => row.keeping_up).length, slow: rows.filter(tooSlow).length,
    bytes: add(rows, row => row.spool_bytes || 0), waiting: add(rows, row => row.waiting),
  };
}
// A student that misses more than one frame of five: a camera is live, but hardly looked at.
const outputsOf = row => [...state.cameras.values()].filter(other => other.edge === row.edge)
  .flatMap(other => Object.entries(other.outputs || {})).map(([name, trouble]) => `output ${name}: ${trouble}`);
const tooSlow = row => row.keeping_up?.enough === false;
// One scale for every camera's day. One that floods, or that saw little in its first half hour, must not flatten the others.
function dayTop() {
  const rates = Object.values(state.sparks).flat().filter(slot => slot.seen).map(slot => total(slot) / slot.seen).sort((a, b) => a - b);
  return +(rates[Math.floor(0.99 * (rates.length - 1))] || 0.01).toPrecision(2);
}

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
// Hatches every run of slots without data: a thick dashed line, since a pattern would have to be named by address.
function hatch(svg, count, silent, left, wide, top, bottom) {
  for (let from = 0, to; from < count; from = to + 1) {
    for (to = from; to < count && silent(to); to++);
    const y = (top + bottom) / 2;
    if (to > from) svg.append(s("line", { class: "gap", x1: left + from * wide, x2: left + to * wide, y1: y, y2: y, "stroke-width": bottom - top }, s("title", {}, "no data")));
  }
}
const short = value => value === 0 ? "0" : value >= 1e6 ? `${+(value / 1e6).toPrecision(3)}M` : value >= 1e4 ? `${+(value / 1e3).toPrecision(3)}k` : `${+value.toPrecision(3)}`;

function rateChart(width, slots, first, step, count, swaps, heard) {
  const top = nice(Math.max(...slots.map(slot => slot.seen ? 100 * total(slot) / slot.seen : 0), 0.01));
  const [svg, box] = frameOf(width, 230, top, "% of seen frames forwarded", "Forwarded-frame rate by reason over time"), said = at => have.get(at)?.seen;
  const x = at => box.left + (at - first) / (step * count) * (box.right - box.left), wide = (box.right - box.left) / count;
  const have = new Map(slots.map(slot => [Math.round((slot.t - first) / step), slot]));
  hatch(svg, count, at => !said(at) && !(at === count - 1 && heard >= first + step * at), box.left, wide, box.top, box.bottom);
  for (let at = 0; at < count; at++) {
    if (!said(at)) continue;
    const slot = have.get(at);
    let y = box.bottom;
    for (const reason of REASONS) {
      const tall = 100 * slot[reason] / slot.seen / top * (box.bottom - box.top);
      if (!tall) continue;
      y -= tall;
      svg.append(s("rect", { class: reason, x: box.left + at * wide + 0.5, width: Math.max(1, wide - 1), y, height: tall },
        s("title", {}, `${clock(slot.t)}: ${slot[reason]} ${reason} of ${whole(slot.seen)} seen`)));
    }
  }
  for (const swap of swaps.filter(swap => swap.at >= first && swap.at <= first + step * count)) {
    const at = x(swap.at), late = at > box.right - 90;
    svg.append(s("g", { class: "swap" },
      s("line", { class: swap.outcome === "live" ? "mark" : "mark bad", x1: at, x2: at, y1: box.top - 4, y2: box.bottom }),
      s("text", { class: "strong", x: late ? at - 4 : at + 4, y: box.top + 6, "text-anchor": late ? "end" : "start" }, `${swap.model_id}${swap.outcome === "live" ? "" : ` ${swap.outcome}`}`),
      s("title", {}, `${stamp(swap.at)}: ${swap.model_id} ${swap.outcome}, gap ${span(swap.gap_ms / 1000)}`)));
  }
  const ticks = width < 500 ? 3 : 6;
  for (let at = 0; at <= ticks; at++) {
    const time = first + step * count * at / ticks;
    svg.append(s("text", { x: x(time), y: box.bottom + 16, "text-anchor": at === ticks ? "end" : at ? "middle" : "start" }, clock(time)));
  }
  svg.append(s("text", { x: box.right, y: box.bottom + 31, "text-anchor": "end" }, "local time"));
  return svg;
}
function lossChart(width, buckets, losses, threshold) {
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
function lineChart(width, points, unit, below, label, chosen) {
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
function spark(camera, top) {
  const { slots } = dayOf(camera), peak = Math.max(...slots.map(slot => slot.seen ? total(slot) / slot.seen : 0), 0);
  const end = Math.floor(now() / 1800) * 1800 + 1800, first = end - 86400;
  const svg = s("svg", { viewBox: "0 0 480 32", preserveAspectRatio: "none", role: "img", "aria-label": `forwarded over the day, at most ${percent(peak)} in half an hour` });
  const have = new Map(slots.map(slot => [Math.round((slot.t - first) / 1800), slot]));
  for (let at = 0; at < 48; at++) {
    const slot = have.get(at);
    if (!slot?.seen) continue;
    svg.append(s("rect", { class: "base", x: at * 10, width: 9, y: 31, height: 1 }));
    const scale = 28 / Math.max(top, total(slot) / slot.seen);
    let y = 31;
    for (const reason of REASONS) {
      const tall = slot[reason] / slot.seen * scale;
      if (tall) { y -= tall; svg.append(s("rect", { class: reason, x: at * 10, width: 9, y, height: tall })); }
    }
    if (total(slot) / slot.seen > top) svg.append(s("rect", { class: "over-top", x: at * 10, width: 9, y: 0, height: 3 }));
  }
  const heard = state.cameras.get(camera)?.heard >= end - 1800;  // what has just begun is told at the end of its first minute
  hatch(svg, 48, at => !have.get(at)?.seen && !(heard && at === 47), 0, 10, -34, 66);  // its dashes are screen pixels: more than it can be tall
  return svg;
}
const legend = extra => h("span", { class: "legend" }, REASONS.map(reason => h("span", {}, h("i", { class: reason }), reason)), h("span", {}, h("i", { class: "gap" }), "no data"), extra);

// The link

let source = null, again = 0;
function connect() {
  clearTimeout(again);
  if (source) source.close();
  source = new EventSource("events");
  source.addEventListener("fleet", event => take(JSON.parse(event.data)));
  source.addEventListener("ping", event => { state.skew = Number(event.data) - Date.now() / 1000; heard(); });
  source.onerror = () => { lose(); if (source.readyState === EventSource.CLOSED) retry(); };
}
function retry() { clearTimeout(again); again = setTimeout(connect, 2000 + 3000 * Math.random()); }
function heard() {
  state.heardAt = Date.now();
  document.body.classList.remove("stale");
  $("lost").hidden = true;
  $("link").className = "on";
}
function lose() {
  document.body.classList.add("stale");
  $("lost").hidden = false;
  $("lost").textContent = state.heardAt ? `Connection lost: figures are of ${clock(state.heardAt / 1000, true)}. Retrying …` : "No connection yet. Retrying …";
  $("link").className = "off";
  $("link").textContent = "not connected";
}
function take(news) {
  state.skew = news.now - Date.now() / 1000;
  heard();
  if (news.all) { state.cameras.clear(); state.sparks = {}; }
  for (const row of news.cameras) state.cameras.set(row.camera, row);
  if (news.sparks) takeSlots(news.sparks, news.day);
  if (view.news) view.news(news);
}
// Only slots that changed are sent; those that began before `day` are over, also of a camera that is silent.
function takeSlots(sparks, day) {
  for (const name of new Set([...Object.keys(state.sparks), ...Object.keys(sparks)])) {
    const slots = new Map([...(state.sparks[name] || []), ...(sparks[name] || [])].map(slot => [slot.t, slot]));
    state.sparks[name] = [...slots.values()].filter(slot => slot.t >= day).sort((a, b) => a.t - b.t);
  }
}
setInterval(() => {
  if (state.heardAt && Date.now() - state.heardAt > 25000) { lose(); state.heardAt = Date.now(); connect(); }
  if ($("link").className === "on") $("link").textContent = clock(now(), true);
  if (view.tick) view.tick();
}, 1000);
async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error || `${answer.status} ${answer.statusText}`);
  return answer.json();
}

// Views: each has `node`, and may have `news` (rows came), `tick` (a second passed), `close`

let view = {};
function route() {
  const [where, name, tab] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  if (view.close) view.close();
  view = where === "camera" && name ? cameraView(name, tab || "now") : where === "rounds" ? roundsView(null) : fleetView();
  $("view").replaceChildren(view.node);
  if (view.drawn) view.drawn();
  document.title = name ? `${name} – Culling` : "Culling";
  $("crumbs").replaceChildren(...(name ? [h("a", { href: "#/" }, "all cameras"), ` / ${name}`] : where === "rounds" ? [h("a", { href: "#/" }, "all cameras"), " / rounds"] : [h("a", { href: "#/rounds" }, "rounds")]));
}
const link = (name, tab) => `#/camera/${encodeURIComponent(name)}${tab ? `/${tab}` : ""}`;

function fleetView() {
  const rows = new Map(), body = h("tbody"), chips = h("span", { class: "bar" }), empty = h("p", { class: "soft" });
  const totals = h("div", { class: "facts totals" }), height = h("span"), over = h("span", {}, h("i", { class: "over-top" }), "above");
  const find = h("input", { type: "search", placeholder: "find a camera", "aria-label": "find a camera", oninput: arrange });
  let only = null;
  const columns = ["camera", "state", "forwarded now", "forwarded over the day", "model", "spool", "lag", "waiting", "last seen"];
  const titles = twin => h("tr", { class: twin ? "twin" : null, "aria-hidden": twin }, columns.map((name, at) => h("th", { scope: "col", class: `k-${KEYS[at]} ${[2, 5, 6, 7, 8].includes(at) ? "n" : ""}`, title: TITLES[name] }, name)));
  const node = h("div", {}, totals, h("div", { class: "bar" }, chips, find, h("span", { class: "push" }, legend([height, over]))), h("table", { class: "fleet" }, h("thead", {}, titles(false), titles(true)), body), empty);
  function sum() {
    const fleet = fleetNow(), told = [
      ["live", h("span", { class: fleet.down ? "bad" : null }, `${fleet.live} of ${fleet.rows.length}`)], ["forwarded now", percent(fleet.rate)], ["over the day", percent(fleet.day)],
      ["frames seen", fleet.fps == null ? "–" : `${whole(fleet.fps)} /s`], ["keeping up", h("span", { class: fleet.slow ? "bad" : null }, fleet.told ? `${fleet.told - fleet.slow} of ${fleet.told}` : "–")], ["in the spools", bytes(fleet.bytes)], ["waiting for a round", whole(fleet.waiting)],
    ];
    totals.hidden = !fleet.rows.length;
    totals.replaceChildren(...told.map(([key, value]) => h("div", {}, h("div", { class: "k" }, key), h("div", { class: "v", "data-k": key }, value))));
  }
  function drawSparks() {
    const top = dayTop();
    for (const row of rows.values()) row.spark(top);
    height.textContent = `full height: ${+(100 * top).toPrecision(3)} %`;
    over.hidden = !node.querySelector(".over-top:not(i)");
  }
  function arrange() {
    const wanted = find.value.trim().toLowerCase(), counts = {};
    const bad = name => ["down", "frozen"].includes(state.cameras.get(name).state) ? 0 : tooSlow(state.cameras.get(name)) ? 1 : 2;
    const names = [...state.cameras.keys()].sort((a, b) => bad(a) - bad(b) || a.localeCompare(b, "en", { numeric: true }));
    for (const name of names) counts[state.cameras.get(name).state] = (counts[state.cameras.get(name).state] || 0) + 1;
    if (only && !counts[only]) only = null;
    const shown = names.filter(name => (!only || state.cameras.get(name).state === only) && name.toLowerCase().includes(wanted));
    for (const name of [...rows.keys()]) if (!state.cameras.has(name)) { rows.get(name).node.remove(); rows.delete(name); }
    for (const name of names) {
      if (!rows.has(name)) { rows.set(name, fleetRow(name)); rows.get(name).spark(dayTop()); }
    }
    const nodes = shown.map(name => rows.get(name).node);
    if (nodes.length !== body.children.length || nodes.some((one, at) => body.children[at] !== one)) body.replaceChildren(...nodes);
    chips.replaceChildren(chip(null, `all ${names.length}`), ...Object.keys(WORDS).filter(word => counts[word]).map(word => chip(word, `${WORDS[word]} ${counts[word]}`)));
    empty.textContent = !state.heardAt ? "" : names.length ? shown.length ? "" : "No camera matches." : "No camera is enrolled yet: run culling cloud enroll EDGE CAMERA --out KIT";
    node.querySelector("table").hidden = node.querySelector("div.bar").hidden = !names.length;
    sum();
  }
  const chip = (word, text) => h("button", { class: word ? `state ${word}` : null, "aria-pressed": String(only === word), onclick: () => { only = word; arrange(); } }, text);
  function news(fresh) {
    arrange();
    for (const row of fresh.cameras) rows.get(row.camera).update(row);
    if (fresh.sparks) drawSparks();
  }
  arrange();
  drawSparks();
  for (const [name, row] of rows) row.update(state.cameras.get(name));
  return { node, news, tick: () => { for (const row of rows.values()) row.tick(); } };
}
const TITLES = {
  "forwarded now": "frames forwarded of frames seen, over the last five minutes", "spool": "frames waiting at the edge",
  "lag": "from the capture of a model's last training frame to its first detection", "waiting": "frames waiting for a round",
};
const KEYS = ["camera", "state", "rate", "spark", "model", "spool", "lag", "waiting", "heard"];
function fleetRow(name) {
  const cell = {}, node = h("tr", { "data-camera": name });
  for (const key of KEYS) {
    cell[key] = h("td", { class: `k-${key} ` + ({ camera: "name", rate: "n rate", spark: "spark", spool: "n", lag: "n right", waiting: "n", heard: "n right" }[key] || ""), "data-k": { spool: "spool", lag: "lag", waiting: "waiting", heard: "seen" }[key] });
  }
  const edge = h("span", { class: "sub" }), word = h("span"), why = h("span", { class: "sub" }), pace = h("span", { class: "sub bad pace" }), outputs = h("span", { class: "sub bad outputs" }), rate = h("span"), day = h("span", { class: "sub" });
  const model = h("span"), scale = h("span", { class: "sub" }), spool = h("span"), full = h("span", { class: "sub" });
  cell.camera.append(h("a", { href: link(name) }, name), edge);
  cell.state.append(word, why, pace, outputs);
  cell.rate.append(rate, day);
  cell.model.append(model, scale);
  cell.spool.append(spool, full);
  node.append(cell.camera, cell.state, cell.rate, cell.spark, cell.model, cell.spool, cell.lag, cell.waiting, cell.heard);
  let row = {};
  const put = (where, text) => { if (where.textContent !== text) where.textContent = text; };
  function update(fresh) {
    row = fresh;
    word.className = `state ${row.state}`;
    put(edge, row.edge);
    put(word, WORDS[row.state]);
    put(why, reasonOf(row));
    put(pace, tooSlow(row) ? `keeping up: ${row.keeping_up.told}` : "");
    pace.title = row.keeping_up?.hint || "";
    put(outputs, outputsOf(row).join("; "));
    put(rate, row.state !== "live" ? WORDS[row.state] : row.rate == null ? "…" : percent(row.rate));
    rate.className = row.state === "live" ? "" : "soft";
    put(model, row.model || "–");
    put(scale, [row.scale ? `scale ${real(row.scale)}` : "", row.live && row.model && row.live !== row.model ? `offered ${row.live}` : "", row.pinned ? "pinned" : ""].filter(Boolean).join(", "));
    put(spool, row.spool_frames == null ? "–" : whole(row.spool_frames));
    put(full, row.spool_bytes ? bytes(row.spool_bytes) : "");
    put(cell.lag, span(row.lag_s));
    put(cell.waiting, whole(row.waiting));
    cell.waiting.title = roundOf(row);
    tick();
  }
  function drawSpark(top) {
    cell.spark.replaceChildren(spark(name, top));
    put(day, dayOf(name).rate == null ? "" : `day ${percent(dayOf(name).rate)}`);
  }
  const tick = () => put(cell.heard, row.heard ? ago(row.heard) : "never");
  return { node, update, tick, spark: drawSpark };
}
// What the round of a camera does now, else what its next one waits for.
function roundOf(row) {
  const next = row.next_round;
  if (row.round) return `round ${row.round.id}: ${row.round.told}`;
  if (!next) return row.state === "revoked" ? "" : "next round is due";
  return next.at == null ? next.told : `${next.waiting} of ${next.needed} labelled frames, next round about ${clock(next.at)}`;
}
function reasonOf(row) {
  if (row.state === "down") return row.told && ["live", "frozen", "ended", "stopped"].includes(row.told) ? "edge is silent" : row.told || "";
  return [row.paused ? row.obeys === false ? "pause pending" : "paused" : "", row.held ? "rounds held" : "", row.frames_per_window ? `budget ${row.frames_per_window}` : ""].filter(Boolean).join(", ");
}

// One camera

function cameraView(name, tab) {
  const facts = h("div", { class: "facts" }), pane = h("div"), acts = h("div", { class: "bar" }), answer = h("p", { class: "answer small", role: "status" });
  const word = h("span"), why = h("span", { class: "soft" }), slow = h("p", { class: "bad small slow", hidden: true });
  const tabs = { now: "now", frames: "hard frames", rounds: "rounds", models: "models" };
  const node = h("div", {}, h("h1", {}, name), h("p", {}, word, " ", why), slow, facts, acts, answer,
    h("nav", { class: "tabs" }, Object.entries(tabs).map(([key, text]) => h("a", { href: link(name, key), "aria-current": key === tab ? "page" : null }, text))), pane);
  const inner = { now: nowPane, frames: framesPane, rounds: name => roundsView(name), models: modelsPane }[tab] || nowPane;
  const part = inner(name, answer);
  pane.append(part.node);
  function news() {
    const row = state.cameras.get(name);
    if (!row) { word.textContent = "unknown camera"; return; }
    word.className = `state ${row.state}`;
    word.textContent = WORDS[row.state];
    why.textContent = [reasonOf(row), row.heard ? `last seen ${ago(row.heard)}` : "", `edge ${row.edge}`].filter(Boolean).join(" · ");
    slow.hidden = !tooSlow(row);
    slow.textContent = tooSlow(row) ? `Keeping up: ${row.keeping_up.told}. ${row.keeping_up.hint}` : "";
    const day = dayOf(name), live = row.state === "live";
    const told = [
      ["forwarded now", live ? row.rate == null ? "…" : percent(row.rate) : WORDS[row.state]], ["over the day", percent(day.rate)],
      ["frames seen", live && row.fps ? `${real(row.fps, 1)} /s` : "–"], ["keeping up", live ? row.keeping_up?.told ?? "…" : "–"], ["model", row.model || "–"], ["scale", real(row.scale)], ["model lag", span(row.lag_s)],
      ["threshold", row.ranker ? "learned" : real(row.threshold)], ["mean loss", real(row.loss)], ["spool", row.spool_frames == null ? "–" : `${whole(row.spool_frames)} (${bytes(row.spool_bytes)})`],
      ...(outputsOf(row).length ? [["outputs of its edge", outputsOf(row).join("; ")]] : []),
      ["AP50, measured", measuredOf(row.accuracy)], ...(row.worse.length ? [["since it came", row.worse.join("; ")]] : []), ["24 h cost", row.bill?.told ?? "–"],
      ["stored", `${whole(row.stored)} (${bytes(row.stored_bytes)})`], ["waiting for the teacher", whole(row.asking)], ["waiting for a round", whole(row.waiting)], ["rounds", roundOf(row) || "–"],
    ];
    facts.replaceChildren(...told.map(([key, value]) => h("div", { class: key === "rounds" || key === "24 h cost" ? "two" : null }, h("div", { class: "k" }, key), h("div", { class: "v", "data-k": key }, value))));
    if (acts.dataset.of !== desiredOf(row)) { acts.dataset.of = desiredOf(row); acts.replaceChildren(...buttons(row, answer)); }
  }
  news();
  return { node, news: fresh => { news(); if (part.news) part.news(fresh); }, tick: () => { news(); if (part.tick) part.tick(); }, close: part.close, drawn: part.drawn, act: news };
}
function measuredOf(accuracy) {
  if (!accuracy) return "too few audits";
  const told = one => `${real(one.value)} (${real(one.low)} to ${real(one.high)})`;
  if (!accuracy.ap50) return "nothing seen";
  return h("span", { title: [`by ${accuracy.audits} audits`, ...Object.entries(accuracy.per_class).map(([name, one]) => `${name} ${told(one)}`), `hard among the frames not forwarded: ${percent(accuracy.stayed_hard.value)}`].join("\n") }, told(accuracy.ap50));
}
const desiredOf = row => JSON.stringify([row.paused, row.held, row.pinned, row.frames_per_window, row.frame_asked, state.token && state.actions]);

// Fetches `path` now and every two seconds while the page is looked at; draws only what changed.
function poller(path, draw) {
  let last = "", closed = false;
  async function turn(force) {
    if (closed || (document.hidden && !force)) return;
    try {
      const found = await get(path()), text = JSON.stringify(found);
      if (!closed && (force || text !== last)) { last = text; draw(found); }
    } catch (error) {
      if (!closed && !last) draw(null, error);
    }
  }
  const timer = setInterval(turn, 2000), resized = () => { last = ""; turn(true); };
  addEventListener("resize", resized);
  return { turn: () => turn(true), close: () => { closed = true; clearInterval(timer); removeEventListener("resize", resized); } };
}
const inside = node => Math.max(260, node.clientWidth - 34);

function nowPane(name) {
  let hour = true;
  const chart = h("div"), losses = h("div"), drops = h("div"), node = h("div", { class: "grid fit" });
  const toggle = h("span");
  const rates = h("section", { class: "panel wide" }, h("h2", {}, "Forwarded-frame rate"), h("div", { class: "bar" }, toggle, h("span", { class: "push" }, legend(h("span", {}, "dashed line: a swap")))), chart);
  node.append(rates, h("section", { class: "panel" }, h("h2", {}, "Confidence loss since the agent started"), losses), h("section", { class: "panel" }, h("h2", {}, "Bytes, and frames not forwarded"), drops));
  function choose() {
    toggle.replaceChildren(...[[true, "last hour"], [false, "last day"]].map(([which, text]) => h("button", { "aria-pressed": String(which === hour), onclick: () => { hour = which; choose(); poll.turn(); } }, text)), " ");
  }
  function draw(found, error) {
    if (error) { chart.replaceChildren(h("p", { class: "bad" }, error.message)); return; }
    const step = hour ? 60 : 600, count = hour ? 60 : 144, end = Math.floor(now() / step) * step + (hour ? 0 : step);
    chart.replaceChildren(rateChart(inside(rates), hour ? found.hour : found.day, end - step * count, step, count, found.swaps, found.row?.heard));
    losses.replaceChildren(found.losses.length ? lossChart(inside(losses.parentNode), found.buckets, found.losses, found.threshold) : h("p", { class: "soft" }, "The edge has reported no losses yet."));
    if (found.ranker) losses.append(h("p", { class: "soft" }, "A learned ranker chooses the frames, not their loss."));
    const seen = found.row?.seen || 0, line = (text, count) => h("tr", {}, h("td", {}, text), h("td", { class: "n" }, whole(count)), h("td", { class: "n soft" }, seen ? percent(count / seen) : ""));
    drops.replaceChildren(h("table", { class: "list" }, h("tbody", {},
      h("tr", {}, h("td", {}, "sent by the agent"), h("td", { class: "n" }, bytes(found.bytes_sent)), h("td")),
      h("tr", {}, h("td", {}, "received by the agent"), h("td", { class: "n" }, bytes(found.bytes_received)), h("td")),
      h("tr", {}, h("td", {}, "hard frames, last day"), h("td", { class: "n" }, bytes(found.frame_bytes_day)), h("td")),
      h("tr", {}, h("td", { class: "soft" }, "since the agent started"), h("td", { class: "n soft" }, "frames"), h("td", { class: "n soft" }, "of seen")),
      line("seen", seen), line("scored", found.row?.inferred || 0), ...Object.entries(found.row?.forwarded || {}).map(([why, count]) => line(`forwarded: ${why}`, count)),
      ...Object.entries(found.skipped).map(([why, count]) => line(`not forwarded: ${why}`, count)), ...Object.entries(found.dropped).map(([why, count]) => line(`dropped: ${why}`, count)), line("evicted from the spool", found.row?.evicted || 0))));
  }
  choose();
  const poll = poller(() => `api/cameras/${encodeURIComponent(name)}`, draw);
  return { node, close: poll.close, drawn: poll.turn };
}

function framesPane(name) {
  const cards = h("div", { class: "gallery" }), older = h("button", { hidden: true, onclick: () => { shown += 24; poll.turn(); } }, "older");
  let shown = 24;
  const reason = h("select", { "aria-label": "why it was chosen", onchange: () => poll.turn() }, h("option", { value: "" }, "any reason"), REASONS.map(one => h("option", { value: one }, one)));
  const kept = h("select", { "aria-label": "culled set", onchange: () => poll.turn() }, h("option", { value: "" }, "in the culled set or not"), h("option", { value: "true" }, "in the culled set"), h("option", { value: "false" }, "not in the culled set"));
  const node = h("div", {}, h("div", { class: "bar" }, reason, kept, h("span", { class: "push legend" }, key("s", "student"), key("t", "teacher"))), cards, h("p", {}, older));
  function key(which, text) {
    const mark = h("i", { class: which === "t" ? "line dash" : "line" });
    mark.style.borderColor = which === "t" ? "var(--teacher)" : "var(--student)";
    return h("span", {}, mark, text);
  }
  function draw(found, error) {
    if (error) { cards.replaceChildren(h("p", { class: "bad" }, error.message)); return; }
    older.hidden = found.length < shown || shown >= 192;
    const have = new Map([...cards.children].map(card => [card.dataset.is, card]));
    cards.replaceChildren(...(found.length ? found.map(frame => have.get(JSON.stringify(frame)) || frameCard(frame)) : [h("p", { class: "soft" }, "No stored hard frame matches.")]));
  }
  const poll = poller(() => `api/cameras/${encodeURIComponent(name)}/frames?limit=${shown}${reason.value && `&reason=${reason.value}`}${kept.value && `&kept=${kept.value}`}`, draw);
  return { node, close: poll.close, drawn: poll.turn };
}
const SET = frame => frame.kept != null ? `in the culled set of round ${frame.kept}` : frame.held_out ? "kept apart from training" : frame.round === 0 && frame.teacher == null ? "never labelled: others were worth more" : frame.teacher == null ? "waiting for the teacher" : frame.round != null ? `not in the culled set of round ${frame.round}` : "waiting for a round";
function boxes(frame) {
  const draw = (list, which) => (list || []).map(([x1, y1, x2, y2, score, label]) => s("rect", { class: which, fill: (frame.colours || {})[label] || "none", x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) }, s("title", {}, `${which === "s" ? "student" : "teacher"}: ${label} ${score}`)));
  return s("svg", { class: "over", viewBox: `0 0 ${frame.width} ${frame.height}`, preserveAspectRatio: "none" }, draw(frame.teacher, "t"), draw(frame.student, "s"));
}
function frameCard(frame) {
  const image = () => h("img", { src: `api/frames/${frame.id}.jpg`, width: frame.width, height: frame.height, loading: "lazy", alt: `hard frame of ${stamp(frame.captured)}` });
  const judged = frame.ap == null ? "not labelled yet" : `AP ${real(frame.ap)}${frame.kind === "hard-negative" ? ", negative" : ""}`;
  return h("figure", { class: "frame", "data-is": JSON.stringify(frame) },
    h("button", { class: "pic", "aria-label": "enlarge", onclick: () => open(h("div", { class: "pic" }, image(), boxes(frame)),
      h("p", { class: "small soft" }, `${frame.student.length} student and ${frame.teacher ? frame.teacher.length : "no"} teacher boxes · ${judged} · ${frame.width} × ${frame.height} px, ${bytes(frame.bytes)}`)) }, image(), boxes(frame)),
    h("figcaption", { class: "small" }, h("span", {}, `${frame.reason}, loss ${real(frame.loss)}`), h("span", { class: "n" }, judged), h("span", { class: frame.kept != null ? "all good" : "all soft" }, SET(frame)),
      h("span", { class: "soft" }, frame.model_id), h("span", { class: "n soft" }, stamp(frame.captured))));
}

function roundsView(name) {
  const list = h("div", { class: "grid" }), node = h("div", {}, name ? null : h("h1", {}, "Rounds"), list);
  function draw(found, error) {
    list.replaceChildren(...(error ? [h("p", { class: "bad" }, error.message)] : found.length ? found.map(turn => h("section", { class: "panel round" })) : [h("p", { class: "soft" }, "No round yet.")]));
    if (!error) found.forEach((turn, at) => roundCard(list.children[at], turn, !name));
  }
  const poll = poller(() => `api/rounds?limit=${name ? 20 : 12}${name ? `&camera=${encodeURIComponent(name)}` : ""}`, draw);
  return { node, close: poll.close, drawn: poll.turn };
}
function roundCard(card, turn, named) {
  const gain = turn.map_after == null ? null : turn.map_after - turn.map_before;
  const tone = { published: "good", failed: "bad", refused: "soft" }[turn.state] || "";
  const fact = (key, value, wide) => h("div", { class: wide ? "two" : null }, h("div", { class: "k" }, key), h("div", { class: "v" }, value));
  card.append(h("header", {}, h("h2", {}, `Round ${turn.id}`, named ? " of " : "", named ? h("a", { href: link(turn.camera, "rounds") }, turn.camera) : ""), h("span", { class: tone }, turn.running ? turn.running.told : turn.state)),
    h("p", { class: "small soft" }, `${turn.trigger}, started ${stamp(turn.started)}${turn.finished ? `, took ${span(turn.finished - turn.started)}` : ""}${turn.model_id ? `, ${turn.model_id}` : ""}`),
    h("div", { class: "facts" }, fact("kept of labelled", turn.kept ? `${turn.kept} of ${turn.labelled}` : "–"),
      fact("AP50 before → after", gain == null ? "–" : h("span", {}, `${real(turn.map_before, 3)} → ${real(turn.map_after, 3)} `, h("span", { class: gain > 0 ? "good" : "bad" }, `${gain >= 0 ? "+" : "−"}${real(Math.abs(gain), 3)}`)), true),
      fact("gate", turn.state === "published" ? turn.provisional ? "provisional" : "passed" : turn.state === "refused" ? "refused" : turn.state === "failed" ? "not reached" : "–"),
      fact("judged on", turn.frames == null ? "–" : `${turn.frames} frames${turn.wanted > turn.frames ? ` of ${turn.wanted}` : ""}`), fact("gain at least", turn.gain_low == null ? "–" : real(turn.gain_low, 3)), fact("scale", real(turn.scale)), fact("ranker", turn.ranker == null ? "–" : `${turn.ranker.proven ? "proven" : "not proven"} on ${turn.ranker.audits} audits`), fact("whole cost", turn.bill?.told ?? "–", true), fact("model lag", span(turn.model_lag_s)), fact("swap, its gap", turn.swap ? `${turn.swap}, ${span(turn.swap_gap_ms / 1000)}` : "–")),
    turn.running?.share != null ? h("progress", { value: turn.running.share, "aria-label": `done of the stage ${turn.running.stage}` }) : "",
    turn.reason || turn.verdict ? h("p", { class: turn.state === "failed" ? "bad small" : "small" }, turn.reason || turn.verdict) : "",
    turn.checks?.length ? h("details", { class: "small" }, h("summary", {}, "by class and hour"), turn.checks.map(check => h("div", { class: check.passed ? "soft" : "bad" }, check.text))) : "");
  if (turn.curve?.length > 1) card.append(h("h2", {}, "optResolution"), lineChart(inside(card), turn.curve.map(point => [point.scale, point.normalised]), "relative change of the loss, squared", "scale (ring: chosen)", "optResolution curve", turn.scale));
  if (turn.losses?.length > 1) card.append(h("h2", {}, "Training"), lineChart(inside(card), turn.losses, "loss", "step", "training curve"));
}

function modelsPane(name, answer) {
  const body = h("tbody"), node = h("div", { class: "scroll" }, h("table", { class: "models" }, h("thead", {}, h("tr", {}, ["model", "state", "in use", "from", "scale", "size", "created", "swap", ""].map((text, at) => h("th", { class: at === 4 || at === 5 ? "n" : null }, text)))), body));
  function draw(found, error) {
    if (error) { node.replaceChildren(h("p", { class: "bad" }, error.message)); return; }
    body.replaceChildren(...found.map(model => h("tr", {},
      h("td", { class: "name" }, model.model_id, h("span", { class: "sub hash" }, model.sha256)), h("td", { "data-k": "state" }, model.state), h("td", { class: model.runs ? "good" : "soft", "data-k": "in use" }, model.runs ? "yes" : "no"),
      h("td", { "data-k": "from" }, model.round ? `round ${model.round}` : model.origin), h("td", { class: "n", "data-k": "scale" }, real(model.scale)), h("td", { class: "n", "data-k": "size" }, bytes(model.size)), h("td", { "data-k": "created" }, stamp(model.created)),
      h("td", { title: model.reason, "data-k": "swap" }, model.swap ? `${model.swap}, gap ${span(model.gap_ms / 1000)}` : "–"),
      h("td", { class: "acts" }, may() && model.kept && model.state !== "live" ? h("button", { onclick: () => sure(`Make ${model.model_id} the live model of ${name}?`, () => act(answer, name, "publish", { model_id: model.model_id })) }, "publish") : "", " ",
        may() && model.kept ? h("button", { onclick: () => sure(`Keep ${name} on ${model.model_id}, even if rounds make better models?`, () => act(answer, name, "pin", { model_id: model.model_id })) }, "pin") : ""))));
  }
  const poll = poller(() => `api/cameras/${encodeURIComponent(name)}/models`, draw);
  return { node, close: poll.close, drawn: poll.turn };
}

// Requests

const may = () => Boolean(state.actions && state.token);
function buttons(row, answer) {
  if (!may()) return [];
  const name = row.camera, button = (text, kind, extra, question) => h("button", { onclick: () => question ? sure(question, () => act(answer, name, kind, extra)) : act(answer, name, kind, extra) }, text);
  return [
    button("start a round", "round"), button(row.frame_asked ? "frame requested" : "forward a frame now", "frame"),
    row.paused ? button("resume forwarding", "resume") : button("pause forwarding", "pause", null, `Stop ${name} from forwarding frames until resumed? Frames already in its spool are still sent.`),
    row.held ? button("resume rounds", "unhold") : button("hold rounds", "hold"), h("button", { onclick: () => budget(row, answer) }, "budget …"),
    row.pinned ? button(`unpin ${row.pinned}`, "unpin") : button("pin the model", "pin"), button("roll back", "rollback", null, `Roll ${name} back to its previous model?`),
  ];
}
async function act(answer, camera, kind, extra) {
  answer.className = "answer small soft";
  answer.textContent = `${kind}: requested …`;
  try {
    const asked = await fetch("api/actions", { method: "POST", headers: { "Content-Type": "application/json", "X-Culling-Token": state.token }, body: JSON.stringify({ kind, camera, ...extra }) });
    const told = await asked.json();
    if (!asked.ok) throw new Error(told.detail || told.error);
    for (let tries = 0; tries < 40; tries++) {
      await new Promise(done => setTimeout(done, 250));
      const found = await get(`api/requests/${told.request}`);
      if (found.done) { if (!found.ok) throw new Error(found.answer); answer.className = "answer small good"; answer.textContent = `${kind}: ${found.answer}`; return; }
    }
    answer.textContent = `${kind}: request ${told.request} is waiting to be carried out`;
  } catch (error) {
    answer.className = "answer small bad";
    answer.textContent = `${kind}: ${error.message}`;
  }
}
function open(...kids) {
  const close = h("button", { onclick: () => $("dialog").close() }, "close");
  $("dialog").className = "big";
  $("dialog").replaceChildren(...kids, h("div", { class: "bar" }, close));
  $("dialog").showModal();
}
function form(question, kids, done) {
  const box = h("form", { method: "dialog", onsubmit: event => { event.preventDefault(); $("dialog").close(); done(); } }, h("p", {}, question), kids,
    h("div", { class: "bar" }, h("button", { type: "button", onclick: () => $("dialog").close() }, "cancel"), h("button", { type: "submit" }, "ok")));
  $("dialog").className = "";
  $("dialog").replaceChildren(box);
  $("dialog").showModal();
}
const sure = (question, done) => form(question, [], done);
function budget(row, answer) {
  const field = h("input", { type: "number", min: 1, max: 100000, value: row.frames_per_window, "aria-label": "frames per window", placeholder: "budget in its settings" });
  form(`Frames that ${row.camera} may forward per window. Leave it empty for the budget in its settings.`, [field], () => act(answer, row.camera, "budget", { frames_per_window: field.value ? Number(field.value) : null }));
}
function unlock() {
  const field = h("input", { type: "password", autocomplete: "off", "aria-label": "token" });
  form("Token (the line in page.token of the service's data folder); it stays in this tab.", [field], async () => {
    const found = await fetch("api/actions", { headers: { "X-Culling-Token": field.value.trim() } });
    if (!found.ok) { sure("Wrong token.", unlock); return; }
    state.token = field.value.trim();
    sessionStorage.setItem(TOKEN, state.token);
    offer();
    route();
  });
}
function offer() {
  $("unlock").hidden = !state.actions;
  $("unlock").textContent = may() ? "lock" : "unlock …";
}
$("unlock").addEventListener("click", () => {
  if (!may()) { unlock(); return; }
  state.token = "";
  sessionStorage.removeItem(TOKEN);
  offer();
  route();
});

addEventListener("hashchange", route);
connect();
route();
get("api/actions").then(found => { state.actions = found.actions; offer(); route(); }).catch(() => {});
