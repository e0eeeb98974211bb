import { buttons, may } from "./actions.js";
import { boxes, image, key, knownFrame } from "./boxes.js";
import { lossChart } from "./charts.js";
import { choice, h, put } from "./dom.js";
import { framesPane } from "./frames.js";
import { get, inside, poller } from "./link.js";
import { liveSight } from "./live.js";
import { modelsPane } from "./models.js";
import { reviewPane } from "./review.js";
import { roundsView } from "./rounds.js";
import { state } from "./state.js";
import { dayOf } from "./sums.js";
import { timeline } from "./timeline.js";
import { accuracyOf, ageOf, ago, askedOf, bytes, count, interval, link, paceOf, percent, real, roundOf, signed, sinceOf, span, stamp, trendOf, whole, wrongOf } from "./words.js";

// One camera: what it sees now, the questions that people ask of it, and its day; behind tabs its frames, rounds and models

const TABS = { now: "now", frames: "hard frames", review: "review", rounds: "rounds", models: "models" };

export function cameraView(name, tab) {
  const acts = h("div", { class: "bar" }), answer = h("p", { class: "answer small", role: "status" }), word = h("span", { class: "word" }), why = h("span", { class: "soft" }), stands = h("p", { class: "stands" }, word, " ", why), slow = h("p", { class: "bad small slow", hidden: true });
  const open = TABS[tab] ? tab : "now", part = { now: nowPane, frames: framesPane, review: reviewPane, rounds: roundsView, models: modelsPane }[open](name, answer);
  const tabs = h("nav", { class: "tabs", "aria-label": "views of the camera" }, Object.entries(TABS).map(([one, text]) => h("a", { href: link(name, one), "aria-current": one === open ? "page" : null }, text)));
  const node = h("div", {}, h("h1", {}, name), stands, slow, acts, answer, tabs, part.node);
  function news() {
    const row = state.cameras.get(name);
    if (!row) { put(word, "unknown camera"); return; }
    stands.dataset.rank = row.standing.rank;
    put(word, row.standing.word);
    put(why, [sinceOf(row.standing), row.standing.cause, askedOf(row), row.heard ? `heard of ${ago(row.heard)}` : "", `edge ${row.edge}`].filter(Boolean).join(" · "));
    slow.hidden = row.keeping_up?.enough !== false;
    put(slow, slow.hidden ? "" : `Keeping up: ${row.keeping_up.told}. ${row.keeping_up.hint}`);
    const wanted = JSON.stringify([row.paused, row.held, row.pinned, row.frames_per_window, row.frame_asked, row.live, row.before, may(name)]);
    if (acts.dataset.of !== wanted) { acts.dataset.of = wanted; acts.replaceChildren(...buttons(row, answer)); }
  }
  news();
  const close = () => { if (part.close) part.close(); };
  return { node, news: fresh => { news(); if (part.news) part.news(fresh); }, tick: () => { news(); if (part.tick) part.tick(); }, close, drawn: part.drawn };
}

// The questions, each with its answer: [what is asked, the answer in a few words, what lies behind it]
function answers(row) {
  const day = dayOf(row.camera), live = row.state === "live", measured = accuracyOf(row), moves = trendOf(row), gain = row.gain;
  const classes = Object.entries(row.accuracy?.per_class || {}).map(([label, one]) => `${label} ${real(one.value)}`).join(", ");
  const newer = gain && gain.map_before != null ? `${gain.model_id} came ${stamp(gain.at)}: ${signed(gain.map_after - gain.map_before, 3)} by its gate (${real(gain.map_before, 3)} → ${real(gain.map_after, 3)})${gain.gain_low == null ? "" : `, at least ${signed(gain.gain_low, 3)}`}${gain.gone ? `; it ${gain.gone}` : ""}` : "";
  return [
    ["keeping up", paceOf(row), [live && row.fps ? `${real(row.fps, 1)} frames/s come from the decoder` : "", row.profile ? `profile ${row.profile.told}${row.profile.since ? `, since ${stamp(row.profile.since)}` : ""}` : ""].filter(Boolean).join("; "), row.keeping_up?.enough === false ? "bad" : ""],
    ["accuracy", measured ? interval(measured) : "not measured yet", measured ? [`AP50 by ${count(row.accuracy.audits, "audit")}`, classes, wrongOf(row), row.worse.length ? row.worse.join("; ") : ""].filter(Boolean).join("; ") : "it takes ten labelled audits of this student", row.worse.length ? "bad" : ""],
    ["last new model", !newer ? "no round has published one" : gain.model_id === row.model || gain.model_id === row.live ? `${signed(gain.map_after - gain.map_before)} AP50` : "not in use any more", newer, moves && moves.by < 0 ? "bad" : ""],
    ["forwarded", live ? row.rate == null ? "…" : percent(row.rate) : "–", `${percent(day.rate)} over the day${row.frames_per_window ? `; budget ${row.frames_per_window} a window` : "; budget as in the edge's settings"}${row.pace ? `; pace ${row.pace.told}${row.pace.since ? `, since ${stamp(row.pace.since)}` : ""}` : ""}`],
    ["rounds", roundOf(row) || "–", `${count(row.waiting, "labelled frame")} waiting for a round, ${whole(row.asking)} for the teacher`, "", row.round?.share],
    ["model", row.model || "–", [ageOf(row), row.scale ? `scale ${real(row.scale)}` : "", row.live && row.model && row.live !== row.model ? `${row.live} is offered` : "", row.shadow?.told ?? "", row.lag_s != null ? `${span(row.lag_s)} from the last frame it learnt from` : ""].filter(Boolean).join("; ")],
    ["link", row.heard ? `heard of ${ago(row.heard)}` : "never heard of", row.spool_frames == null ? "" : `${count(row.spool_frames, "frame")} (${bytes(row.spool_bytes)}) wait at the edge; ${whole(row.stored)} (${bytes(row.stored_bytes)}) are stored here`, ["lost", "no picture"].includes(row.standing.word) ? "bad" : ""],
    ["24 h cost", row.bill?.told?.split(";")[0] ?? "–", row.bill?.told?.split(";").slice(1).join(";").trim() ?? ""],
  ];
}

function nowPane(name) {
  const view = h("div", { class: "pic" }), under = h("p", { class: "small soft" }), facts = h("dl", { class: "answers" }), today = h("p", { class: "today" }), line = timeline(), losses = h("div"), drops = h("div");
  const axis = h("section", { class: "panel wide" }, h("h2", {}, "The last day"), today, line.node);
  const behind = h("details", { class: "panel wide" }, h("summary", {}, "What lies behind the choice of frames"), h("div", { class: "grid fit" }, h("section", {}, h("h2", {}, "Confidence loss since the agent started"), losses), h("section", {}, h("h2", {}, "Bytes, and frames not forwarded"), drops)));
  let sight = null;
  const shows = choice("picture", { last: "last hard frame", live: "live" }, "last", which => {
    if (sight) sight.close();
    sight = which === "live" ? liveSight(name, view, under) : null;
    shown = "";
    if (!sight) news();
  });
  const node = h("div", { class: "grid" }, h("div", { class: "look wide" }, h("section", { class: "panel" }, h("p", { class: "bar" }, shows), view, under), h("section", { class: "panel" }, facts)), axis, behind);
  let shown = "", changed = "", said = "";
  function news() {
    const row = state.cameras.get(name);
    if (!row) return;
    const found = answers(row), text = JSON.stringify(found);
    if (text !== said) facts.replaceChildren(...found.map(([asked, told, more, tone, share]) => h("div", {}, h("dt", {}, asked), h("dd", {}, h("span", { class: `v ${tone || ""}`, "data-k": asked }, told), share == null ? null : h("progress", { value: share, "aria-label": "done of the running stage" }), h("span", { class: "sub" }, more)))));
    said = text;
    show(row);
    const happened = JSON.stringify([row.swap, row.round?.id]);
    if (changed !== happened && changed) daily.turn();
    changed = happened;
  }
  async function show(row) {
    const id = row.picture ? `${row.picture.id} ${row.picture.labelled}` : "none";
    if (id === shown || sight) return;
    shown = id;
    if (!row.picture) { view.replaceChildren(h("p", { class: "soft" }, "No frame of this camera is stored yet.")); under.replaceChildren(); return; }
    const frame = await knownFrame(row.picture.id);
    if (!frame || shown !== id || sight) return;
    view.replaceChildren(image(frame), boxes(frame, { floor: 0.4, named: true, whole: 620 }));
    under.replaceChildren(`The last frame that left, ${stamp(frame.captured)}: ${frame.why}. `, key());
  }
  function draw(found, error) {
    if (error) { losses.replaceChildren(h("p", { class: "bad" }, error.message)); return; }
    losses.replaceChildren(found.losses.length ? lossChart(inside(losses.parentNode), found.buckets, found.losses, found.threshold) : h("p", { class: "soft" }, "The edge has reported no losses yet."));
    if (found.ranker) losses.append(h("p", { class: "soft" }, "A learned ranker chooses the frames, not their loss."));
    const seen = found.row?.seen || 0, entry = (text, number) => h("tr", {}, h("td", {}, text), h("td", { class: "n" }, whole(number)), h("td", { class: "n soft" }, seen ? percent(number / seen) : ""));
    drops.replaceChildren(h("table", { class: "list" }, h("tbody", {},
      h("tr", {}, h("td", {}, "sent by the agent"), h("td", { class: "n" }, bytes(found.bytes_sent)), h("td")), h("tr", {}, h("td", {}, "received by the agent"), h("td", { class: "n" }, bytes(found.bytes_received)), h("td")), h("tr", {}, h("td", {}, "hard frames, last day"), h("td", { class: "n" }, bytes(found.frame_bytes_day)), h("td")),
      h("tr", {}, h("td", { class: "soft" }, "since the agent started"), h("td", { class: "n soft" }, "frames"), h("td", { class: "n soft" }, "of seen")),
      entry("seen", seen), entry("looked at", found.row?.inferred || 0), ...Object.entries(found.row?.forwarded || {}).map(([reason, number]) => entry(`forwarded: ${reason}`, number)),
      ...Object.entries(found.skipped).map(([reason, number]) => entry(`not forwarded: ${reason}`, number)), ...Object.entries(found.dropped).map(([reason, number]) => entry(DROPPED[reason] || `dropped: ${reason}`, number)), entry("given up by a full spool", found.row?.evicted || 0))));
  }
  function takeDay(day, error) {
    if (error) { put(today, error.message); return; }
    const totals = new Map();
    for (const [, label, number] of day.found) totals.set(label, (totals.get(label) || 0) + number);
    put(today, totals.size ? `In ${count(day.frames, "forwarded frame")}: ${[...totals].sort((a, b) => b[1] - a[1]).map(([label, number]) => `${whole(number)} ${label}`).join(", ")}.` : "");
    line.news(day);
  }
  const path = `api/cameras/${encodeURIComponent(name)}`, poll = poller(() => path, draw), daily = poller(() => get(`${path}/day`), takeDay, 60_000);
  behind.addEventListener("toggle", () => poll.turn());
  return { node, news, tick: news, close: () => { poll.close(); daily.close(); if (sight) sight.close(); }, drawn: () => { news(); poll.turn(); daily.turn(); } };
}
const DROPPED = { newer: "not looked at: the student was busy", unchanged: "not looked at: nothing had changed", rate: "not looked at: beyond its profile's rate", "max-fps": "not looked at: beyond max_fps", frozen: "not looked at: the picture was frozen" };
