import { legend, spark } from "./charts.js";
import { h } from "./dom.js";
import { state } from "./state.js";
import { dayOf, dayTop, fleetNow, tooSlow } from "./sums.js";
import { WORDS, ago, bytes, link, percent, real, reasonOf, roundOf, span, whole } from "./words.js";

export function fleetView() {
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
  const edge = h("span", { class: "sub" }), word = h("span"), why = h("span", { class: "sub" }), pace = h("span", { class: "sub bad pace" }), rate = h("span"), day = h("span", { class: "sub" });
  const model = h("span"), scale = h("span", { class: "sub" }), spool = h("span"), full = h("span", { class: "sub" });
  cell.camera.append(h("a", { href: link(name) }, name), edge);
  cell.state.append(word, why, pace);
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
