import { $ } from "./dom.js";
import { current, state } from "./state.js";

// The canvas: the picture, the boxes of the student, the regions. Every class has a colour and a dash of its own, every kind of
// region a line and a filling of its own, all on a dark rim: they can be told apart without colours, and on any ground.

const COLOURS = ["#56b4ff", "#ffb020", "#4fd6a5", "#f08bd0", "#ffe14d", "#ff7f6e"];
const DASHES = [[], [9, 4], [2, 3], [12, 3, 3, 3], [5, 5]];
const LINES = { mask: { colour: "#fff", dash: [] }, ignore: { colour: "#ffb020", dash: [3, 4] }, zone: { colour: "#4fd6a5", dash: [14, 5] } };
const GRIP = 6;

export function drawPicture(editor) {
  const canvas = $("canvas"), ratio = window.devicePixelRatio || 1, { width: wide, height: tall } = shape();
  document.documentElement.style.setProperty("--ratio", (wide / tall).toFixed(3));
  const across = canvas.clientWidth, down = across * tall / wide;
  if (canvas.width !== Math.round(across * ratio) || canvas.height !== Math.round(down * ratio)) { canvas.width = Math.round(across * ratio); canvas.height = Math.round(down * ratio); }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = "#101316";
  pen.fillRect(0, 0, across, down);
  if (state.picture) pen.drawImage(state.picture, 0, 0, across, down);
  const place = ([x, y]) => [x * across, y * down];
  if (state.outlines || editor.busy) state.regions.forEach((one, at) => drawRegion(pen, one, place, at === editor.chosen, editor));
  if (state.boxes && state.head?.record && state.picture) boxes(pen, across / wide, down / tall);
  if (editor.open) openRegion(pen, editor, place);
}
export const shape = () => state.head?.width ? state.head : state.picture || { width: 16, height: 9 };

function line(pen, path, colour, dash, width) {
  for (const [style, thick, dashes] of [["rgb(0 0 0 / .7)", width + 2.5, []], [colour, width, dash]]) {
    pen.strokeStyle = style; pen.lineWidth = thick; pen.setLineDash(dashes);
    pen.stroke(path);
  }
  pen.setLineDash([]);
}
function outline(points, place, closed = true) {
  const path = new Path2D();
  points.forEach((point, at) => path[at ? "lineTo" : "moveTo"](...place(point)));
  if (closed) path.closePath();
  return path;
}
function drawRegion(pen, one, place, chosen, editor) {
  const path = outline(one.polygon, place), { colour, dash } = LINES[one.kind];
  if (one.kind === "mask") { pen.fillStyle = "rgb(0 0 0 / .6)"; pen.fill(path); }
  if (one.kind === "ignore") hatch(pen, path, one.polygon.map(place));
  if (one.kind === "zone") { pen.fillStyle = "rgb(79 214 165 / .12)"; pen.fill(path); }
  line(pen, path, colour, dash, chosen ? 3 : 2);
  const top = [...one.polygon].sort((a, b) => a[1] - b[1] || a[0] - b[0])[0], [x, y] = place(top);
  label(pen, called(one), x, y + 2, colour, true);
  if (chosen) one.polygon.forEach((point, at) => grip(pen, place(point), colour, at === editor.point));
}
export const called = one => one.kind === "zone" ? one.name || "zone" : one.classes.length ? `${one.kind}: ${one.classes.join(", ")}` : one.kind;
function hatch(pen, path, points) {
  const xs = points.map(point => point[0]), ys = points.map(point => point[1]), left = Math.min(...xs), right = Math.max(...xs), top = Math.min(...ys), low = Math.max(...ys);
  pen.save();
  pen.clip(path);
  pen.strokeStyle = "rgb(255 176 32 / .55)"; pen.lineWidth = 1;
  pen.beginPath();
  for (let x = left - (low - top); x < right; x += 9) { pen.moveTo(x, low); pen.lineTo(x + low - top, top); }
  pen.stroke();
  pen.restore();
}
function grip(pen, [x, y], colour, filled) {
  const path = new Path2D();
  path.arc(x, y, filled ? GRIP + 1.5 : GRIP, 0, 7);
  pen.fillStyle = filled ? "#fff" : colour;
  pen.fill(path);
  pen.strokeStyle = "#000"; pen.lineWidth = filled ? 3 : 1.5;
  pen.stroke(path);
}
function openRegion(pen, editor, place) {
  const { colour } = LINES[editor.kind], { points, at } = editor.open;
  line(pen, outline(at ? [...points, at] : points, place, false), colour, [], 2);
  points.forEach((point, number) => grip(pen, place(point), colour, number === 0));
  if (!at) return;
  const [x, y] = place(at), cross = new Path2D(`M${x - 11} ${y}H${x + 11}M${x} ${y - 11}V${y + 11}`);
  line(pen, cross, "#fff", [], 1.5);
}
function boxes(pen, sx, sy) {
  const classes = current()?.classes || [], shown = state.head.record.detections.filter(one => one.score >= state.floor);
  for (const one of [...shown].reverse()) {
    const [x1, y1, x2, y2] = one.box, number = Math.max(0, classes.indexOf(one.label)), colour = COLOURS[number % COLOURS.length];
    const path = new Path2D();
    path.rect(x1 * sx, y1 * sy, (x2 - x1) * sx, (y2 - y1) * sy);
    line(pen, path, colour, DASHES[number % DASHES.length], 2);
    label(pen, `${one.track == null ? "" : `#${one.track} `}${one.label} ${one.score.toFixed(2)}`, x1 * sx, y1 * sy, colour);
  }
}
// A text above a point, or below it where there is no room, on a dark ground.
function label(pen, text, x, y, colour, below = false) {
  const size = pen.canvas.clientWidth < 600 ? 11 : 13;
  pen.font = `600 ${size}px system-ui, sans-serif`;
  const wide = pen.measureText(text).width + 8, left = Math.max(0, Math.min(x - 1, pen.canvas.clientWidth - wide)), top = below || y < size + 5 ? y + 1 : y - size - 6;
  pen.fillStyle = "rgb(0 0 0 / .75)";
  pen.fillRect(left, top, wide, size + 5);
  pen.fillStyle = colour;
  pen.textBaseline = "top";
  pen.fillText(text, left + 4, top + 3);
}
