import { $, h, put } from "./dom.js";
import { called, drawPicture, shape } from "./picture.js";
import { current, state } from "./state.js";
import { changed } from "./toml.js";
import { counted } from "./words.js";

// Drawing: with the mouse, a finger or the keys. A polygon's points are fractions of the frame; every change can be taken back.

const KINDS = { mask: "A mask hides pixels from everything: they are black before a student, a picture or this page sees them.", ignore: "An ignored place: what stands there is not found, learnt or counted.", zone: "A zone: what stands there is counted." };
const NEAR = 11, STEP = 0.005, MOST = 100;

const editor = { kind: "zone", open: null, chosen: -1, point: -1, drag: null, past: [], get busy() { return Boolean(this.open) || this.chosen >= 0; } };
const region = () => state.regions[editor.chosen];
const clamp = value => Math.round(1e4 * Math.min(1, Math.max(0, value))) / 1e4;
const copied = () => JSON.stringify(state.regions);

export function draw() { drawPicture(editor); }
export function leave() { editor.open = editor.drag = null; editor.chosen = editor.point = -1; editor.past = []; show(); }

function change(act) {
  editor.past.push(copied());
  act();
  state.dirty = true;
  changed();
  show();
}
function undo() {
  const before = editor.past.pop();
  if (before == null) return;
  state.regions = JSON.parse(before);
  editor.chosen = Math.min(editor.chosen, state.regions.length - 1);
  editor.point = -1;
  state.dirty = true;
  changed();
  show();
}

// A new polygon

function start() {
  editor.open = { points: [], at: null };
  editor.chosen = editor.point = -1;
  $("canvas").focus();
  show();
}
function addPoint(point) {
  const { points } = editor.open, last = points.at(-1);
  if (points.length >= 3 && near(point, points[0])) { close(); return; }
  if (last && near(point, last, 3)) return;  // the second half of a double click
  if (points.length < MOST) points.push(point.map(clamp));
  show();
}
function close() {
  const { points } = editor.open;
  if (points.length < 3) { put($("hint"), `A polygon takes at least three points, there ${points.length === 1 ? "is one" : `are ${points.length}`}.`); return; }
  change(() => {
    state.regions.push({ kind: editor.kind, polygon: points, name: editor.kind === "zone" ? freeName() : "", classes: [], score: null });
    editor.chosen = state.regions.length - 1;
    editor.open = null;
  });
}
function freeName() {
  const taken = new Set(state.regions.map(one => one.name));
  for (let number = 1; ; number++) if (!taken.has(`zone-${number}`)) return `zone-${number}`;
}

// One that is there

function choose(at) { editor.open = null; editor.chosen = at === editor.chosen ? -1 : at; editor.point = -1; show(); }
function remove() {
  if (!region()) return;
  change(() => {
    if (editor.point >= 0 && region().polygon.length > 3) { region().polygon.splice(editor.point, 1); editor.point = -1; return; }
    state.regions.splice(editor.chosen, 1);
    editor.chosen = editor.point = -1;
  });
}
function move(dx, dy) {
  const one = region(), only = editor.point;
  if (!one) return;
  change(() => { one.polygon = one.polygon.map(([x, y], at) => only < 0 || at === only ? [clamp(x + dx), clamp(y + dy)] : [x, y]); });
}
function nextPoint(step) {
  const many = region()?.polygon.length;
  if (many) { editor.point = editor.point < 0 ? (step > 0 ? 0 : many - 1) : (editor.point + step + many) % many; show(); }
}

// Mouse and fingers

function pointed(event) {
  const box = $("canvas").getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}
function near([x1, y1], [x2, y2], within = NEAR) {
  const box = $("canvas").getBoundingClientRect();
  return Math.hypot((x1 - x2) * box.width, (y1 - y2) * box.height) <= within;
}
function holds(polygon, [x, y]) {
  let inside = false;
  polygon.forEach(([x1, y1], at) => {
    const [x2, y2] = polygon[(at + 1) % polygon.length];
    if (y1 > y !== y2 > y && x < (x2 - x1) * (y - y1) / (y2 - y1) + x1) inside = !inside;
  });
  return inside;
}
function pressed(event) {
  const at = pointed(event);
  if (event.button) return;
  if (editor.open) { addPoint(at); return; }
  const point = region()?.polygon.findIndex(one => near(at, one)) ?? -1;
  if (point >= 0) {
    editor.point = point;
    editor.drag = { from: at, before: copied() };
    $("canvas").setPointerCapture(event.pointerId);
  } else {
    const hit = state.outlines ? state.regions.findLastIndex(one => holds(one.polygon, at)) : -1;
    editor.point = -1;
    if (hit !== editor.chosen) editor.chosen = hit;
    else if (hit >= 0) { editor.drag = { from: at, before: copied(), whole: region().polygon }; $("canvas").setPointerCapture(event.pointerId); }
  }
  show();
}
function moved(event) {
  const at = pointed(event), { drag } = editor;
  if (editor.open) { editor.open.at = at.map(clamp); draw(); return; }
  if (!drag) return;
  if (drag.whole) region().polygon = drag.whole.map(([x, y]) => [clamp(x + at[0] - drag.from[0]), clamp(y + at[1] - drag.from[1])]);
  else region().polygon[editor.point] = at.map(clamp);
  draw();
}
function released() {
  const { drag } = editor;
  editor.drag = null;
  if (!drag || drag.before === copied()) return;
  editor.past.push(drag.before);
  state.dirty = true;
  changed();
  show();
}

// Keys

function typed(event) {
  if (event.altKey || ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() !== "z")) return;
  const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key], far = STEP * (event.shiftKey ? 10 : 1);
  const keys = editor.open
    ? { " ": () => addPoint(editor.open.at ?? [0.5, 0.5]), enter: close, backspace: () => { editor.open.points.pop(); show(); }, escape: () => { editor.open = null; show(); } }
    : { d: start, n: () => nextPoint(1), p: () => nextPoint(-1), u: undo, z: undo, delete: remove, backspace: remove, escape: () => choose(editor.chosen) };
  const done = arrow ? () => step(arrow, far) : keys[event.key.toLowerCase()];
  if (!done) return;
  event.preventDefault();
  done();
}
function step([dx, dy], far) {
  const { width, height } = shape(), down = far * width / height;
  if (!editor.open) { move(dx * far, dy * down); return; }
  const [x, y] = editor.open.at ?? [0.5, 0.5];
  editor.open.at = [clamp(x + dx * far * 2), clamp(y + dy * down * 2)];
  show();
}

// What stands beside the picture

export function show() {
  $("kinds").replaceChildren(...Object.keys(KINDS).map(kind => h("button", { "aria-pressed": String(kind === editor.kind), title: KINDS[kind], onclick: () => { editor.kind = kind; show(); $("kinds").querySelector("[aria-pressed=true]").focus(); } }, kind)));
  put($("draw"), editor.open ? "close it" : `draw a${editor.kind === "ignore" ? " place to ignore" : ` ${editor.kind}`}`);
  $("undo").disabled = !editor.past.length;
  $("canvas").classList.toggle("drawing", Boolean(editor.open));
  $("canvas").classList.toggle("busy", editor.busy);
  put($("hint"), editor.open ? "Click points; Enter or a double click closes, Backspace takes the last one back, Esc leaves it. Arrows move the cross, Space sets a point."
    : region() ? "Drag a point, or the whole region. N and P choose a point, arrows move it (Shift: farther), Delete takes it out, U takes back."
    : KINDS[editor.kind]);
  $("list").replaceChildren(...state.regions.map((one, at) => h("li", {}, h("button", { "aria-pressed": String(at === editor.chosen), onclick: () => { choose(at); $("list").children[at]?.firstChild.focus(); } },
    h("i", { class: one.kind }), h("span", {}, called(one)), h("span", { class: "soft small" }, `${one.kind === "zone" ? "zone, " : ""}${counted(one.polygon.length, "point")}`)))));
  if (!state.regions.length) $("list").replaceChildren(h("li", { class: "soft" }, "No region yet: the whole picture counts."));
  if (!$("edited").contains(document.activeElement) || !region()) fields();
  draw();
}
function fields() {
  const one = region();
  if (!one) { $("edited").replaceChildren(); return; }
  const field = (label, props, set) => h("label", {}, `${label} `, h("input", { ...props, onchange: event => change(() => set(event.target.value.trim())) }));
  const known = h("datalist", { id: "known" }, (current()?.classes || []).map(value => h("option", { value })));
  $("edited").replaceChildren(h("div", { class: "fields" },
    one.kind === "zone" ? field("name", { id: "name", value: one.name }, value => { one.name = value; }) : null,
    one.kind === "mask" ? null : field("classes", { id: "classes", value: one.classes.join(", "), placeholder: "all", list: "known" }, value => { one.classes = value.split(",").map(part => part.trim()).filter(Boolean); }), known,
    one.kind === "zone" ? field("least score", { id: "score", type: "number", min: 0, max: 1, step: 0.05, value: one.score ?? "", placeholder: "0.5" }, value => { one.score = value === "" ? null : Number(value); }) : null,
    h("button", { onclick: () => { editor.point = -1; remove(); $("canvas").focus(); } }, "delete this region")));
}

export function listen() {
  const canvas = $("canvas");
  canvas.addEventListener("pointerdown", pressed);
  canvas.addEventListener("pointermove", moved);
  for (const over of ["pointerup", "pointercancel"]) canvas.addEventListener(over, released);
  canvas.addEventListener("pointerleave", () => { if (editor.open) { editor.open.at = null; draw(); } });
  canvas.addEventListener("dblclick", () => { if (editor.open) close(); });
  canvas.addEventListener("keydown", typed);
  $("draw").addEventListener("click", () => { if (editor.open) close(); else start(); });
  $("undo").addEventListener("click", undo);
  addEventListener("resize", draw);
}
