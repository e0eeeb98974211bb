import { buttons } from "./actions.js";
import { legend, lossChart, rateChart } from "./charts.js";
import { h } from "./dom.js";
import { framesPane } from "./frames.js";
import { inside, poller } from "./link.js";
import { modelsPane } from "./models.js";
import { roundsView } from "./rounds.js";
import { now, state } from "./state.js";
import { dayOf } from "./sums.js";
import { accuracyOf, ago, askedOf, bytes, interval, link, paceOf, percent, real, roundOf, sinceOf, span, whole } from "./words.js";

export function cameraView(name, tab) {
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
    word.className = "word";
    word.parentNode.dataset.rank = row.standing.rank;
    word.textContent = row.standing.word;
    why.textContent = [sinceOf(row.standing), row.standing.cause, askedOf(row), row.heard ? `heard of ${ago(row.heard)}` : "", `edge ${row.edge}`].filter(Boolean).join(" · ");
    slow.hidden = row.keeping_up?.enough !== false;
    slow.textContent = slow.hidden ? "" : `Keeping up: ${row.keeping_up.told}. ${row.keeping_up.hint}`;
    const day = dayOf(name), live = row.state === "live";
    const told = [
      ["forwarded now", live ? row.rate == null ? "…" : percent(row.rate) : "–"], ["over the day", percent(day.rate)],
      ["frames seen", live && row.fps ? `${real(row.fps, 1)} /s` : "–"], ["keeping up", paceOf(row)], ["model", row.model || "–"], ["scale", real(row.scale)], ["model lag", span(row.lag_s)],
      ["threshold", row.ranker ? "learned" : real(row.threshold)], ["mean loss", real(row.loss)], ["spool", row.spool_frames == null ? "–" : `${whole(row.spool_frames)} (${bytes(row.spool_bytes)})`],
      ["accuracy", accuracyOf(row) ? interval(accuracyOf(row)) : "not measured yet"], ...(row.worse.length ? [["since it came", row.worse.join("; ")]] : []), ["24 h cost", row.bill?.told ?? "–"],
      ["stored", `${whole(row.stored)} (${bytes(row.stored_bytes)})`], ["waiting for the teacher", whole(row.asking)], ["waiting for a round", whole(row.waiting)], ["rounds", roundOf(row) || "–"],
    ];
    facts.replaceChildren(...told.map(([key, value]) => h("div", { class: key === "rounds" || key === "24 h cost" ? "two" : null }, h("div", { class: "k" }, key), h("div", { class: "v", "data-k": key }, value))));
    if (acts.dataset.of !== desiredOf(row)) { acts.dataset.of = desiredOf(row); acts.replaceChildren(...buttons(row, answer)); }
  }
  news();
  return { node, news: fresh => { news(); if (part.news) part.news(fresh); }, tick: () => { news(); if (part.tick) part.tick(); }, close: part.close, drawn: part.drawn, act: news };
}
const desiredOf = row => JSON.stringify([row.paused, row.held, row.pinned, row.frames_per_window, row.frame_asked, state.token && state.actions]);

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
