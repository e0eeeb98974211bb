import { h, s } from "./dom.js";
import { get } from "./link.js";
import { stamp } from "./words.js";

// A frame's picture with boxes. The student's are solid, the teacher's dashed, a person's dotted, those of a new student solid and thick, all with a
// dark rim: so they can be told apart without colours, and on any ground. A box is filled with a breath of its class's colour, as the settings' [classes] have it.

const WHO = { s: "student", t: "teacher", p: "person", n: "new student" };

export function boxes(frame, { floor = 0, named = false, whole = 900, by = "s" } = {}) {
  const unit = frame.width / whole, whose = byPerson(frame) ? "p" : "t";
  const svg = s("svg", { class: "over", viewBox: `0 0 ${frame.width} ${frame.height}`, "aria-hidden": "true" });
  const draw = (list, which) => {
    for (const [x1, y1, x2, y2, score, label] of list || []) {
      if (which === by && score < floor) continue;
      const place = { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) };
      const text = which === by ? `${label} ${score.toFixed(2)}` : label;
      svg.append(s("rect", { class: "rim", ...place }), s("rect", { class: which, fill: frame.colours?.[label], ...place }, s("title", {}, `${WHO[which]}: ${text}`)));
      if (!named) continue;
      const low = which !== by, size = 15 * unit;
      const name = s("text", { class: which, x: low ? x2 - 2 * unit : x1 + 2 * unit, y: low ? y2 - 5 * unit : Math.max(size, y1 - 5 * unit), "stroke-width": 3 * unit, "text-anchor": low ? "end" : "start" }, text);
      name.style.fontSize = `${size}px`;
      svg.append(name);
    }
  };
  svg.append(...places(frame, unit, named));
  draw(frame.teacher, whose);
  draw(frame.student, by);
  return svg;
}
// Places of a frame that do not count: dark, with a thin light edge, and which classes do not count there.
export function places(frame, unit, named) {
  return (frame.ignored || []).flatMap(({ polygon, classes }) => {
    const points = polygon.map(([x, y]) => [x * frame.width, y * frame.height]), text = `ignored: ${classes.join(", ") || "everything"}`, size = 13 * unit;
    const area = s("polygon", { class: "ignored", points: points.map(point => point.join(",")).join(" ") }, s("title", {}, text));
    if (!named) return [area];
    const name = s("text", { class: "p", x: Math.min(...points.map(point => point[0])) + 3 * unit, y: Math.min(...points.map(point => point[1])) + size, "stroke-width": 3 * unit }, text);
    name.style.fontSize = `${size}px`;
    return [area, name];
  });
}
export const byPerson = frame => ["corrected", "teacher", "student"].includes(frame.decision);
export function image(frame, lazy = true) {
  return h("img", { src: `api/frames/${frame.id}.jpg`, width: frame.width, height: frame.height, loading: lazy ? "lazy" : null, alt: frame.captured ? `frame of ${stamp(frame.captured)}` : "" });
}
export const key = (whose = { s: "student", t: "teacher", p: "a person" }) => h("span", { class: "legend" }, Object.entries(whose).map(([which, text]) => h("span", {}, h("i", { class: `line ${which}` }), text)));

// What is known of frames that rows only name; it is asked for once.
const known = new Map();
export async function knownFrame(id) {
  if (!known.has(id)) {
    if (known.size > 600) known.delete(known.keys().next().value);
    known.set(id, get(`api/frames/${id}`).catch(() => null));
  }
  return known.get(id);
}
