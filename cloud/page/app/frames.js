import { open } from "./actions.js";
import { boxes, byPerson, image, key } from "./boxes.js";
import { h } from "./dom.js";
import { get, poller } from "./link.js";
import { REASONS } from "./sums.js";
import { bytes, real, stamp } from "./words.js";

// A camera's hard frames: what left, why it was hard, the student's boxes beside the teacher's, and which of it was kept

const PAGE = 24, MOST = 192;

export function framesPane(name) {
  const cards = h("div", { class: "gallery" }), older = h("button", { hidden: true, onclick: () => { shown += PAGE; poll.turn(); } }, "older");
  let shown = PAGE, floor = 0.1, list = [];
  const pick = (label, options) => h("select", { "aria-label": label, onchange: () => poll.turn() }, Object.entries(options).map(([value, text]) => h("option", { value }, text)));
  const reason = pick("why it was chosen", { "": "any reason", ...Object.fromEntries(REASONS.map(one => [one, one])) });
  const kept = pick("culled set", { "": "in the culled set or not", true: "in the culled set", false: "not in the culled set" });
  const least = h("output", {}, real(floor)), slide = h("input", { type: "range", min: 0, max: 0.95, step: 0.05, value: floor, "aria-label": "least score of the student's boxes", oninput: () => { floor = Number(slide.value); least.textContent = real(floor); redraw(); } });
  const node = h("div", {}, h("div", { class: "bar" }, reason, kept, h("label", { class: "soft small" }, "scores from ", slide, " ", least), h("span", { class: "push" }, key())), cards, h("p", {}, older));
  function draw(found, error) {
    if (error) { cards.replaceChildren(h("p", { class: "bad" }, error.message)); return; }
    list = found.rows;
    older.hidden = !found.more || shown >= MOST;
    redraw();
  }
  function redraw() {
    const have = new Map([...cards.children].map(card => [card.dataset.is, card]));
    cards.replaceChildren(...(list.length ? list.map((frame, at) => have.get(JSON.stringify([frame, floor, at])) || frameCard(frame, floor, at, () => enlarge(list, at, floor))) : [h("p", { class: "soft" }, "No stored hard frame matches.")]));
  }
  // Labelled ones first: of the others nobody can say yet how hard they were.
  async function fetchBoth() {
    const path = `api/cameras/${encodeURIComponent(name)}/frames?limit=${shown}${reason.value && `&reason=${reason.value}`}${kept.value && `&kept=${kept.value}`}&labelled=`;
    const [labelled, waiting] = await Promise.all([get(`${path}true`), kept.value === "true" ? [] : get(`${path}false`)]);
    return { rows: [...labelled, ...waiting].slice(0, shown), more: labelled.length + waiting.length > shown || labelled.length === shown };
  }
  const poll = poller(fetchBoth, draw);
  return { node, close: poll.close, drawn: poll.turn };
}
const setOf = frame => frame.kept != null ? `in the culled set of round ${frame.kept}` : frame.held_out ? "kept apart, to judge by" : frame.round === 0 && frame.teacher == null ? "never labelled: others were worth more" : frame.teacher == null ? "waits for the teacher" : frame.round != null ? `not in the culled set of round ${frame.round}` : "waits for a round";
const judgedOf = frame => frame.ap == null ? "" : `AP ${real(frame.ap)}`;
const saidOf = frame => byPerson(frame) ? `boxes by a person (${frame.decision})` : frame.decision === "skipped" ? "skipped by a person" : "";

function frameCard(frame, floor, at, show) {
  return h("figure", { class: "frame", "data-is": JSON.stringify([frame, floor, at]) },
    h("button", { class: "pic", "aria-label": `enlarge the frame of ${stamp(frame.captured)}`, onclick: show }, image(frame), boxes(frame, { floor })),
    h("figcaption", { class: "small" }, h("span", { class: "why" }, frame.why), h("span", { class: frame.kept != null ? "good" : "soft" }, [setOf(frame), saidOf(frame)].filter(Boolean).join(", ")),
      h("span", { class: "soft" }, [stamp(frame.captured), frame.model_id, `loss ${real(frame.loss)}`, judgedOf(frame)].filter(Boolean).join(" · "))));
}
// One frame over the page; the arrow keys go to the others.
export function enlarge(list, at, floor = 0.1) {
  const stage = h("div", { class: "pic" }), text = h("div", { class: "small" }), place = h("span", { class: "soft small" });
  const move = by => { at = (at + by + list.length) % list.length; show(); };
  function show() {
    const frame = list[at];
    stage.style.maxWidth = `${74 * frame.width / frame.height}vh`;  // all of it fits, with the buttons below
    stage.replaceChildren(image(frame, false), boxes(frame, { floor, named: true }));
    text.replaceChildren(h("p", {}, frame.why), h("p", { class: "soft" }, [stamp(frame.captured), frame.reason, `loss ${real(frame.loss)}`, judgedOf(frame), setOf(frame), saidOf(frame), frame.model_id, `${frame.width} × ${frame.height} px, ${bytes(frame.bytes)}`].filter(Boolean).join(" · ")));
    place.textContent = `${at + 1} of ${list.length}`;
  }
  show();
  open([stage, text], [key(), place, h("button", { onclick: () => move(-1), "aria-keyshortcuts": "ArrowLeft" }, "← previous"), h("button", { onclick: () => move(1), "aria-keyshortcuts": "ArrowRight" }, "next →")],
    event => { const by = { ArrowLeft: -1, ArrowRight: 1, k: -1, j: 1 }[event.key]; if (by) { event.preventDefault(); move(by); } });
}
