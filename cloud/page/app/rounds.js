import { lineChart } from "./charts.js";
import { h } from "./dom.js";
import { inside, poller } from "./link.js";
import { link, real, span, stamp } from "./words.js";

export function roundsView(name) {
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
