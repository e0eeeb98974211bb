import { open } from "./actions.js";
import { h, s } from "./dom.js";
import { poller } from "./link.js";
import { REASONS } from "./sums.js";
import { bytes, real, stamp } from "./words.js";

export function framesPane(name) {
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
const SET = frame => frame.kept != null ? `in the culled set of round ${frame.kept}` : frame.held_out ? "kept apart from training" : frame.round === 0 ? "never labelled: others were worth more" : frame.teacher == null ? "waiting for the teacher" : frame.round != null ? `not in the culled set of round ${frame.round}` : "waiting for a round";
function boxes(frame) {
  const draw = (list, which) => (list || []).map(([x1, y1, x2, y2, score, label]) => s("rect", { class: which, x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) }, s("title", {}, `${which === "s" ? "student" : "teacher"}: ${label} ${score}`)));
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
