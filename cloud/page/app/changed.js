import { open } from "./actions.js";
import { boxes, byPerson, image, key } from "./boxes.js";
import { h } from "./dom.js";
import { get } from "./link.js";
import { count, stamp } from "./words.js";

// What changed by a round: the held-out frames on which the student before and the new one differ most, both beside the labels

// A round's frames do not change any more, so they are asked for once; cards are made anew whenever something happens.
const asked = new Map();
function framesOf(turn) {
  if (!asked.has(turn.id)) asked.set(turn.id, get(`api/rounds/${turn.id}/changed`).catch(error => { asked.delete(turn.id); throw error; }));
  return asked.get(turn.id);
}

export function changedOf(turn) {
  if (!turn.changed.frames) return h("p", { class: "changed small" }, h("strong", {}, "What changed: "), "both students find the same on every held-out frame.");
  const strip = h("div", { class: "strip" }), told = h("p", { class: "small soft" }, `${count(turn.changed.frames, "held-out frame")} on which both students differ most`);
  framesOf(turn).then(found => {
    if (found.gone) told.textContent = found.gone_told;
    strip.replaceChildren(...found.frames.map((frame, at) => h("button", { class: "pic wipe", "aria-label": `what changed on the frame of ${stamp(frame.captured)}: ${frame.told}`, onclick: () => compare(found, at) }, image(frame), ...layers(frame))));
  }).catch(error => { told.className = "small bad"; told.textContent = error.message; });
  return h("section", { class: "changed" }, h("h3", {}, "What changed"), told, strip);
}
// The labels lie above, so that their dashes are seen where a student's box is just as large.
function layers(frame, named) {
  const layer = (parts, by, style) => { const svg = boxes({ ...frame, teacher: null, student: null, ...parts }, { named, by, whole: Math.min(900, innerWidth) }); svg.classList.add(style); return svg; };
  return [layer({ student: frame.before }, "s", "old"), layer({ student: frame.after }, "n", "new"), layer({ teacher: frame.teacher }, "s", "labels")];
}
// One frame over the page: left of the line the student before, right of it the new one. A slider, or a finger, moves the line; keys go to the others.
function compare(found, at) {
  const stage = h("div", { class: "pic wipe" }), text = h("div", { class: "small", role: "status" }), legend = h("div"), place = h("span", { class: "soft small" }), list = found.frames;
  const slide = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "how much of the picture shows the student before", oninput: () => draw(Number(slide.value)) });
  const row = h("label", { class: "slide small soft" }, "all new", slide, "all before"), newer = found.after || "the candidate";
  const sides = h("div", { class: "sides small" }, h("span", {}, "← ", found.before), h("span", {}, newer, " →"));
  const draw = share => { slide.value = share; slide.setAttribute("aria-valuetext", `${share} % ${found.before}, ${100 - share} % ${newer}`); stage.style.setProperty("--at", `${share}%`); };
  const move = by => { at = (at + by + list.length) % list.length; show(); };
  const drag = event => { const box = stage.getBoundingClientRect(); draw(Math.round(100 * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)))); };
  stage.addEventListener("pointerdown", event => { stage.setPointerCapture(event.pointerId); drag(event); });
  stage.addEventListener("pointermove", event => { if (stage.hasPointerCapture(event.pointerId)) drag(event); });
  function show() {
    const frame = list[at], fits = `${66 * frame.width / frame.height}vh`;  // all of it fits, with the slider below
    stage.style.maxWidth = row.style.maxWidth = sides.style.maxWidth = fits;
    const picture = image(frame, false);
    picture.draggable = false;
    stage.replaceChildren(picture, ...layers(frame, true));
    text.replaceChildren(h("p", {}, frame.told), h("p", { class: "soft" }, [stamp(frame.captured), frame.reason, byPerson(frame) ? "labelled by a person" : "labelled by the teacher", found.gone_told].filter(Boolean).join(" · ")));
    legend.replaceChildren(key({ s: "before", n: "new", ...(byPerson(frame) ? { p: "a person" } : { t: "teacher" }) }));
    place.textContent = `${at + 1} of ${list.length}`;
  }
  show();
  draw(50);
  open([sides, stage, row, legend, text], [place, h("button", { onclick: () => move(-1), "aria-keyshortcuts": "p" }, "← previous"), h("button", { onclick: () => move(1), "aria-keyshortcuts": "n" }, "next →")],
    event => { const arrow = event.target === slide ? 0 : { ArrowLeft: -1, ArrowRight: 1 }[event.key], by = arrow || { p: -1, k: -1, n: 1, j: 1 }[event.key]; if (by) { event.preventDefault(); move(by); } });
}
