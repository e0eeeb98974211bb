import { boxes, knownFrame, image } from "./boxes.js";
import { legend, spark } from "./charts.js";
import { choice, h, put } from "./dom.js";
import { state } from "./state.js";
import { dayOf, dayTop } from "./sums.js";
import { virtual } from "./virtual.js";
import { accuracyOf, ageOf, ago, askedOf, bytes, count, interval, link, paceOf, percent, roundOf, sentence, sinceOf, trendOf, whole } from "./words.js";

// All cameras: those first that need a person, as rows or as tiles

const COLUMNS = { pic: "", who: "camera", how: "state", pace: "keeping up", acc: "accuracy", rate: "forwarded", model: "model", next: "next round" };
const HINTS = {
  pace: "frames that its student looked at, of those that came to it, over the last five minutes",
  acc: "AP50 of the student in use against the teacher, estimated from frames drawn at random; in brackets the interval that holds 95 of 100 times",
  rate: "frames that left of frames seen, over the last five minutes, and over the day",
};
const byName = new Intl.Collator("en", { numeric: true }).compare;
const order = (a, b) => a.standing.rank - b.standing.rank || byName(a.camera, b.camera);
const remember = (what, value) => { try { localStorage.setItem(`culling ${what}`, value); } catch { /* a browser that keeps nothing */ } };
const recall = what => { try { return localStorage.getItem(`culling ${what}`); } catch { return null; } };

export function fleetView() {
  let look = recall("look") === "tiles" ? "tiles" : "rows", grouped = { edge: true, "": false }[recall("groups")], only = "", saidOfThem = null;
  const told = h("h1", { class: "told" }), facts = h("p", { class: "soft totals" }), heads = h("div", { class: "heads", "aria-hidden": "true" });
  const find = h("input", { type: "search", placeholder: "find a camera or an edge", "aria-label": "find a camera or an edge", oninput: () => arrange() });
  const chips = h("span", { class: "chips" }), empty = h("p", { class: "soft empty" }), list = virtual(fleetItem), scale = h("span", {});
  const looks = choice("show as", { rows: "rows", tiles: "tiles" }, look, key => { look = key; remember("look", key); arrange(); });
  const group = h("button", { onclick: () => { grouped = group.getAttribute("aria-pressed") !== "true"; remember("groups", grouped ? "edge" : ""); arrange(); } });
  const bar = h("div", { class: "bar" }, chips, find, group, looks, h("span", { class: "push" }, legend(scale)));
  const node = h("div", { class: "fleet" }, told, facts, bar, heads, list.node, empty);

  function say(rows) {
    const { head, parts, more } = sentence(rows);
    const named = parts.map(part => part[0]).join("\n");
    if (named !== saidOfThem) {  // links stay where they are, or whoever is on one would lose it every second
      saidOfThem = named;
      told.replaceChildren(h("span"), ...parts.flatMap(([name]) => ["; ", h("a", { href: link(name) }, name), h("span")]), h("span"));
    }
    const spans = told.querySelectorAll("span");
    put(spans[0], head);
    parts.forEach(([, text], at) => put(spans[at + 1], text));
    put(spans[parts.length + 1], more > 0 ? `; and ${more} more` : "");
    told.className = `told ${rows.some(row => row.standing.rank === 0) ? "bad" : rows.some(row => row.standing.rank < 3) ? "warn" : ""}`;
    const add = of => rows.reduce((sum, row) => sum + (of(row) || 0), 0), days = rows.map(row => dayOf(row.camera));
    const seen = days.reduce((sum, day) => sum + day.seen, 0), sent = days.reduce((sum, day) => sum + day.sent, 0), running = rows.filter(row => row.round).length;
    const paced = rows.filter(row => row.keeping_up);
    put(facts, [`${percent(seen ? sent / seen : null)} of frames forwarded over the day`, paced.length ? `${paced.filter(row => row.keeping_up.enough).length} of ${paced.length} students keep up` : "",
      running ? `${count(running, "round")} running` : "no round is running", `${count(add(row => row.waiting), "labelled frame")} waiting for a round`, `${bytes(add(row => row.spool_bytes))} at the edges`].filter(Boolean).join(" · "));
  }
  function arrange() {
    const rows = [...state.cameras.values()], wanted = find.value.trim().toLowerCase();
    if (only && !rows.some(row => row.standing.word === only)) only = "";
    rows.sort(order);
    const shown = rows.filter(row => (!only || row.standing.word === only) && `${row.camera} ${row.edge} ${row.site || ""}`.toLowerCase().includes(wanted)), words = new Map();
    for (const row of rows) words.set(row.standing.word, (words.get(row.standing.word) || 0) + 1);
    chips.replaceChildren(chip("", `all ${rows.length}`), ...[...words].map(([word, number]) => chip(word, `${word} ${number}`)));
    bar.hidden = facts.hidden = told.hidden = !rows.length;
    put(empty, !state.heardAt ? "" : !rows.length ? "No camera is enrolled yet: run culling cloud enroll EDGE CAMERA --out KIT" : shown.length ? "" : "No camera matches.");
    const narrow = innerWidth <= 1160, items = [];
    const sited = rows.some(row => row.site != null), groups = grouped ?? sited;  // sites are named to be looked at
    put(group, sited ? "group by site" : "group by edge");
    group.setAttribute("aria-pressed", String(groups));
    if (groups) {
      const edges = new Map();
      for (const row of shown) edges.set(row.site ?? row.edge, [...(edges.get(row.site ?? row.edge) || []), row]);
      for (const [edge, mine] of edges) items.push({ head: `${edge}: ${mine.filter(row => row.standing.word === "fine").length} of ${mine.length} fine` }, ...mine.map(row => row.camera));
    } else items.push(...shown.map(row => row.camera));
    list.node.className = `virtual ${look}`;
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);  // what fits follows the size of letters
    if (look === "tiles") list.lay(items, 19.5 * rem, 30.2 * rem);
    else list.lay(items, (narrow ? 20 : 69.5) * rem, (narrow ? 10.4 : 5.8) * rem);
    heads.hidden = look === "tiles" || narrow || !shown.length;
    heads.replaceChildren(...Array.from({ length: Math.min(list.columns(), shown.length) }, () => h("div", { class: "cam" }, Object.entries(COLUMNS).map(([key, text]) => h("span", { class: key, title: HINTS[key] }, text)))));
    if (rows.length) say(rows);
  }
  const chip = (word, text) => h("button", { class: "chip", "data-word": word, "aria-pressed": String(only === word), onclick: () => { only = word; arrange(); } }, text);
  function news(fresh) {
    arrange();
    const changed = new Set(fresh.cameras.map(row => row.camera));
    list.each((one, key) => { if (changed.has(key) || fresh.sparks) one.update(fresh.sparks); });
    if (fresh.sparks) top();
  }
  const top = () => put(scale, `full height ${+(100 * dayTop()).toPrecision(3)} %`);
  const tick = () => { say([...state.cameras.values()]); list.each(one => one.tick?.()); };
  const typed = event => { if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) { event.preventDefault(); find.focus(); } };
  addEventListener("resize", arrange);
  addEventListener("keydown", typed);
  return { node, news, tick, drawn: () => { arrange(); top(); }, close: () => { list.close(); removeEventListener("resize", arrange); removeEventListener("keydown", typed); } };
}

function fleetItem(name) {
  const text = key => h("span", { class: key }), part = (key, ...kids) => h("div", { class: key, title: HINTS[key] }, h("span", { class: "k" }, COLUMNS[key]), kids);
  const edge = text("sub"), word = text("word"), since = text("since"), cause = text("sub cause"), asked = text("sub asked"), pace = text("v"), acc = text("v"), trend = text("sub trend");
  const rate = text("v"), day = text("sub"), bars = h("div", { class: "spark" }), model = text("v"), age = text("sub"), next = text("v next-text"), done = h("progress", { hidden: true, max: 1, "aria-label": "done of the running stage" });
  const pic = h("a", { class: "pic", href: link(name), tabindex: -1, "aria-hidden": "true" });
  const node = h("div", { class: "cam", role: "listitem", "data-camera": name }, pic, h("div", { class: "who" }, h("a", { href: link(name) }, name), edge), h("div", { class: "how" }, h("div", {}, word, " ", since), cause, asked),
    part("pace", pace), part("acc", acc, trend), part("rate", h("div", {}, rate, " ", day), bars), part("model", model, age), part("next", next, done));
  let row = {}, shownPicture = "";
  async function show() {
    const id = row.picture ? `${row.picture.id} ${row.picture.labelled}` : "none";
    if (id === shownPicture) return;
    shownPicture = id;
    if (!row.picture) { pic.replaceChildren(h("span", { class: "nopic" }, "no picture yet")); return; }
    const frame = await knownFrame(row.picture.id);
    if (frame && shownPicture === id) pic.replaceChildren(image(frame), boxes(frame, { floor: 0.4 }), h("span", { class: "when" }, ago(frame.captured)));
  }
  function update(drawBars = true) {
    row = state.cameras.get(name);
    if (!row) return;
    const standing = row.standing, live = row.state === "live", measured = accuracyOf(row), moves = trendOf(row);
    node.dataset.rank = standing.rank;
    put(edge, row.edge);
    put(word, standing.word);
    put(cause, standing.cause);
    cause.title = standing.cause;
    put(asked, askedOf(row));
    put(pace, paceOf(row));
    pace.className = row.keeping_up?.enough === false ? "v bad" : "v";
    put(acc, measured ? interval(measured) : "not measured");
    acc.className = measured ? "v" : "v soft";
    put(trend, moves ? `${moves.sign} ${moves.word}` : "");
    trend.className = `sub trend ${moves?.tone || ""}`;
    put(rate, !live ? "–" : row.rate == null ? "…" : percent(row.rate));
    const past = dayOf(name);
    put(day, past.rate == null ? "" : `day ${percent(past.rate)}`);
    put(model, row.model || "–");
    model.title = row.model || "";
    put(next, roundOf(row));
    next.title = roundOf(row);
    done.hidden = row.round?.share == null;
    if (row.round?.share != null) done.value = row.round.share;
    if (drawBars !== false) bars.replaceChildren(spark(name, dayTop()));
    show();
    tick();
  }
  function tick() {
    if (!row.standing) return;
    put(since, sinceOf(row.standing));
    put(age, [ageOf(row), row.live && row.model && row.live !== row.model ? `offered ${row.live}` : ""].filter(Boolean).join(", "));
    node.title = row.heard ? `heard of ${ago(row.heard)}; ${whole(row.spool_frames || 0)} frames wait at its edge` : "";
  }
  return { node, update, tick };
}
