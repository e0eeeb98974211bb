import { changedOf } from "./changed.js";
import { lineChart } from "./charts.js";
import { enlarge } from "./frames.js";
import { boxes, image } from "./boxes.js";
import { h } from "./dom.js";
import { get, inside, poller } from "./link.js";
import { link, real, span, stamp } from "./words.js";

// Rounds: one that runs with its stages, and each that is over as a story of how it went

const STAGES = { claim: "take frames", label: "label", zoo: "try earlier students", score: "score", cull: "cull", rank: "learn to choose", resolution: "find the scale", fit: "train", train: "train", export: "export", gate: "judge" };
const OUTCOMES = { published: "published", refused: "refused", failed: "failed", running: "running", ready: "about to be published" };

export function roundsView(name) {
  const list = h("div", { class: "stories" }), node = h("div", {}, name ? null : h("h1", {}, "Rounds"), list);
  function draw(found, error) {
    list.replaceChildren(...(error ? [h("p", { class: "bad" }, error.message)] : found.length ? found.map(turn => h("section", { class: `panel round ${turn.state}` })) : [h("p", { class: "soft" }, "No round yet. The first one starts by itself once enough frames are labelled.")]));
    if (!error) found.forEach((turn, at) => roundCard(list.children[at], turn, !name));
  }
  const poll = poller(() => `api/rounds?limit=${name ? 20 : 12}${name ? `&camera=${encodeURIComponent(name)}` : ""}`, draw);
  return { node, close: poll.close, drawn: poll.turn };
}

function roundCard(card, turn, named) {
  const tone = { published: "good", failed: "bad", refused: "warn" }[turn.state] || "";
  card.append(h("header", {}, h("h2", {}, `Round ${turn.id}`, named ? " of " : "", named ? h("a", { href: link(turn.camera, "rounds") }, turn.camera) : ""), h("span", { class: `outcome ${tone}` }, turn.running ? turn.running.told : turn.provisional ? "published, provisional" : OUTCOMES[turn.state] || turn.state)),
    h("p", { class: "soft small" }, `${stamp(turn.started)}: ${turn.started_by ?? turn.trigger}${turn.finished ? `; took ${span(turn.finished - turn.started)}` : ""}`));
  if (turn.state === "running" || turn.state === "ready") { card.append(...underWay(turn)); return; }
  card.append(h("p", { class: "verdict" }, turn.told), h("ol", { class: "story" }, turn.story.map(line => h("li", {}, line))), h("div", { class: "strip" }));
  if (turn.map_after != null) card.append(gateOf(turn));
  if (turn.changed) card.append(changedOf(turn));
  if (turn.checks?.length) card.append(h("details", { class: "small" }, h("summary", {}, `by class and hour: ${turn.checks.filter(check => check.passed).length} of ${turn.checks.length} passed`), turn.checks.map(check => h("div", { class: check.passed ? "soft" : "bad" }, `${check.passed ? "✓" : "✗"} ${check.text}`))));
  const curves = h("details", { class: "small" }, h("summary", {}, "training and scale"));
  curves.addEventListener("toggle", () => { if (curves.open && curves.children.length === 1) curves.append(...curvesOf(turn, inside(card))); });
  if (turn.losses?.length > 1 || turn.curve?.length > 1) card.append(curves);
  if (turn.kept) chosen(card.querySelector(".strip"), turn);
}
// The stages in order: those that are over, the one that runs with its share, those to come.
function underWay(turn) {
  const running = turn.running, order = [...new Set([...Object.keys(turn.seconds || {}), ...Object.keys(STAGES)])].filter(one => !["fit", "zoo", "score", "rank"].includes(one));
  const here = order.indexOf(running?.stage ?? turn.stage);
  return [h("ol", { class: "stages" }, order.map((one, at) => h("li", { class: at < here ? "done" : at === here ? "here" : "", "aria-current": at === here ? "step" : null }, STAGES[one] || one))),
    running?.share != null ? h("progress", { value: running.share, "aria-label": `done of the stage ${running.stage}` }) : h("p", { class: "small soft" }, running ? "this stage does not tell how far it is" : "it is about to begin"),
    running?.left_s != null ? h("p", { class: "small soft" }, `${Math.round(100 * running.share)} % of ${STAGES[running.stage] || running.stage}, about ${span(running.left_s)} left of it`) : ""];
}
// The gate as a picture: both students, and how low the gain may be.
function gateOf(turn) {
  const row = (label, value, style, text) => h("div", { class: "bar-row small" }, h("span", {}, label), h("meter", { class: style, min: 0, max: 1, value, "aria-label": `${label}: AP50 ${real(value, 3)}` }), h("span", {}, text));
  return h("div", { class: "gate" }, row("before", turn.map_before, "before", real(turn.map_before, 3)), row("after", turn.map_after, "after", `${real(turn.map_after, 3)}${turn.gain_low == null ? "" : `, certainly over ${real(turn.map_before + turn.gain_low, 3)}`}`));
}
function curvesOf(turn, width) {
  const found = [];
  if (turn.losses?.length > 1) found.push(h("h2", {}, "Training"), lineChart(width, turn.losses, "loss", "step", "training curve"));
  if (turn.curve?.length > 1) found.push(h("h2", {}, "Scale (optResolution)"), lineChart(width, turn.curve.map(point => [point.scale, point.normalised]), "relative change of the loss, squared", "scale (ring: chosen)", "optResolution curve", turn.scale));
  return found;
}
async function chosen(strip, turn) {
  const found = await get(`api/cameras/${encodeURIComponent(turn.camera)}/frames?limit=6&culled_by=${turn.id}`).catch(() => []);
  strip.replaceChildren(...found.map((frame, at) => h("button", { class: "pic", "aria-label": `chosen frame of ${stamp(frame.captured)}`, onclick: () => enlarge(found, at) }, image(frame), boxes(frame, { floor: 0.3 }))));
}
