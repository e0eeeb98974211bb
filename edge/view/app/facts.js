import { $, h, put } from "./dom.js";
import { state } from "./state.js";
import { ago, byClass, clock } from "./words.js";

// What stands below the picture: how fast, how old, what is in it; or, in a sentence, why there is none

const SPAN_S = 4, PATIENT_S = 6, QUIET_S = 5;
let heard = [], cameAt = 0, last = null, spokenAt = 0, wakeAt = 0, trouble = "", away = false;

// Of another camera nothing is known yet.
export function forget() {
  heard = [];
  last &&= { ...last, number: 0, at: 0, width: 0, record: null, why: "", pace: "" };
}
export function tell(head) {
  last = head;
  spokenAt = Date.now();
  trouble = "";
  away = false;
  heard.push({ at: head.now, shown: head.number ? 1 : 0 });
  heard = heard.filter(one => one.at >= head.now - SPAN_S);
  if (head.number) cameAt = head.now;
  render();
}
export function lost(error) {
  heard = [];
  away = !error.status || error.status === 502 || error.status === 504;  // those are a proxy's
  trouble = away ? "The agent does not answer: it has ended, or the line is down. Trying again …" : error.message;
  render();
}
// Nothing was heard for a while: what stands here is what was, and says so. A page that nobody looked at asked nothing meanwhile.
const quiet = () => Date.now() - Math.max(spokenAt, wakeAt) > 1000 * QUIET_S;
function render() {
  const silent = Boolean(last) && quiet(), of = state.head || last, now = last ? last.now + (Date.now() - spokenAt) / 1000 : 0;
  document.body.classList.toggle("stale", silent);
  put($("silent"), silent ? sentence() : "");
  $("link").className = trouble || silent ? "off" : "on";
  put($("link"), trouble || silent ? "not connected" : last ? clock(last.now) : "");
  if (!last) { put($("nothing"), trouble); return; }
  tellFacts(of, now, silent);
  put($("now-in"), silent ? "in it then" : "in it now");
  zones(of.record?.zones || {});
  const settled = last.number || last.state !== "live" || last.now - cameAt > PATIENT_S;  // a slow student is no trouble yet
  put($("why"), state.picture && !silent ? trouble || (settled ? last.why : "") : "");
  put($("nothing"), state.picture ? "" : trouble || last.why || "Waiting for the next picture …");
  $("canvas").setAttribute("aria-label", `${silent ? "last" : "live"} picture of ${state.camera}${of.record ? `: ${byClass(above(of.record))}` : ""}; D draws a region`);
}
function sentence() {
  const since = clock(last.now);
  return trouble && !away ? `Nothing new since ${since}: ${trouble}` : `The agent has not answered since ${since}: it has ended, or the line is down. What stands here is from then.`;
}
function tellFacts(of, now, silent) {
  const seconds = heard.length ? last.now - heard[0].at : 0, pictures = heard.slice(1).reduce((sum, one) => sum + one.shown, 0);
  facts({
    "in the picture": of.record ? byClass(above(of.record)) : "-",
    pictures: silent || trouble ? "-" : `${seconds > 0.5 ? (pictures / seconds).toFixed(1) : "…"} a second`,
    student: silent || trouble ? "-" : last.pace || "…",
    "taken at": of.at ? `${clock(of.at)}, ${ago(Math.max(0, now - of.at))}` : "-",
    model: of.record?.model || "none",
    size: of.width ? `${of.width} × ${of.height}` : "-",
  });
}
export function watchSilence() {
  document.addEventListener("visibilitychange", () => { wakeAt = Date.now(); });
  setInterval(() => { if (last && !document.hidden && !$("open").hidden) render(); }, 1000);
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
