import { $, h, put } from "./dom.js";
import { state } from "./state.js";
import { ago, byClass, clock } from "./words.js";

// What stands below the picture: how fast, how old, what is in it; or, in a sentence, why there is none

const SPAN_S = 4, PATIENT_S = 6;
let heard = [], cameAt = 0;

export const forgetRates = () => { heard = []; };
export function tell(head) {
  heard.push({ at: head.now, seen: head.seen, inferred: head.inferred, shown: head.number ? 1 : 0 });
  heard = heard.filter(one => one.at >= head.now - SPAN_S);
  const first = heard[0], seconds = head.now - first.at, rate = (last, from) => seconds > 0.5 ? ((last - from) / seconds).toFixed(1) : "…";
  const pictures = heard.slice(1).reduce((sum, one) => sum + one.shown, 0), of = state.head || head;
  facts({
    "in the picture": of.record ? byClass(above(of.record)) : "-",
    pictures: `${rate(pictures, 0)} a second`,
    student: `${rate(head.inferred, first.inferred)} of ${rate(head.seen, first.seen)} frames/s`,
    "taken at": of.at ? `${clock(of.at)}, ${ago(Math.max(0, head.now - of.at))}` : "-",
    model: of.record?.model || "none",
    size: of.width ? `${of.width} × ${of.height}` : "-",
  });
  zones(of.record?.zones || {});
  put($("link"), `${clock(head.now)}`);
  $("link").className = "on";
  if (head.number) cameAt = head.now;
  const settled = head.number || head.state !== "live" || head.now - cameAt > PATIENT_S;  // a slow student is no trouble yet
  put($("why"), state.picture && settled ? head.why : "");
  put($("nothing"), state.picture ? "" : head.why || "Waiting for the next picture …");
  $("canvas").setAttribute("aria-label", `live picture of ${state.camera}${of.record ? `: ${byClass(above(of.record))}` : ""}; D draws a region`);
}
function above(record) {
  const counts = {};
  for (const one of record.detections) if (one.score >= state.floor) counts[one.label] = (counts[one.label] || 0) + 1;
  return counts;
}
function facts(found) {
  const list = $("facts");
  if (list.children.length !== Object.keys(found).length) list.replaceChildren(...Object.keys(found).map(key => h("div", {}, h("dt", {}, key), h("dd", {}))));
  Object.values(found).forEach((text, at) => put(list.children[at].lastChild, text));
}
function zones(found) {
  const names = Object.keys(found), total = counts => Object.values(counts).reduce((sum, one) => sum + one, 0);
  $("zones").hidden = !names.length;
  $("zones").tBodies[0].replaceChildren(...names.map(name => h("tr", {}, h("td", {}, name), h("td", {}, byClass(found[name].present)), h("td", { class: "n" }, String(total(found[name].entered))), h("td", { class: "n" }, String(total(found[name].left))))));
}
export function lost(error) {
  forgetRates();
  $("link").className = "off";
  put($("link"), "not connected");
  const text = error.status ? error.message : "The agent does not answer: it has ended, or the line is down. Trying again …";
  put($("why"), state.picture ? text : "");
  put($("nothing"), state.picture ? "" : text);
}
