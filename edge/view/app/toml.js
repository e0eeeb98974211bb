import { $, put } from "./dom.js";
import { ask } from "./link.js";
import { state } from "./state.js";

// What is drawn, as the agent's settings would say it: it checks, and words what is wrong

export const tables = () => ({
  mask: state.regions.filter(one => one.kind === "mask").map(one => one.polygon),
  ignore: state.regions.filter(one => one.kind === "ignore").map(one => ({ polygon: one.polygon, ...some(one) })),
  zone: state.regions.filter(one => one.kind === "zone").map(one => ({ name: one.name, polygon: one.polygon, ...some(one), ...(one.score == null ? {} : { score: one.score }) })),
});
const some = one => one.classes.length ? { classes: one.classes } : {};
export function fromTables(found) {
  const made = (kind, table) => ({ kind, polygon: table.polygon.map(point => [...point]), name: table.name || "", classes: table.classes || [], score: table.score ?? null });
  return [...found.mask.map(polygon => made("mask", { polygon })), ...found.ignore.map(table => made("ignore", table)), ...found.zone.map(table => made("zone", table))];
}

// What is drawn here, with what somebody else has put in or taken out since `before`.
export function merged(before, now) {
  const has = (list, one) => list.some(other => JSON.stringify(other) === JSON.stringify(one)), mine = tables();
  return Object.fromEntries(Object.keys(mine).map(kind => [kind, [
    ...mine[kind].filter(one => has(now[kind], one) || !has(before[kind], one)),
    ...now[kind].filter(one => !has(before[kind], one) && !has(mine[kind], one)),
  ]]));
}

const CHECK_AGAIN_MS = 5000;
let due = 0, asked = 0, known = false, wrong = "";
export function changed() {
  known = false;
  later(120);
  put($("answer"), "");
  $("reread").hidden = true;
  offer();
}
function later(within) {
  clearTimeout(due);
  due = setTimeout(check, within);
}
// Returns what is wrong with what is drawn, or "".
export async function verdict() {
  clearTimeout(due);
  if (!known) await check();
  return wrong;
}
async function check() {
  const mine = ++asked, camera = state.camera;
  try {
    const { toml } = await (await ask(`api/cameras/${encodeURIComponent(camera)}/check`, tables())).json();
    if (mine === asked) told(toml, "");
  } catch (error) {
    if (mine !== asked) return;
    told("", error.status ? error.message : "What is drawn could not be checked: the agent does not answer.");
    if (error.status !== 422) later(CHECK_AGAIN_MS);
  }
}
function told(toml, refused) {
  known = true;
  wrong = refused;
  if (toml) put($("toml"), toml);
  $("toml").classList.toggle("old", Boolean(wrong));
  put($("wrong-regions"), wrong);
  $("copy").disabled = Boolean(wrong);
  offer();
  put($("applies"), state.actions ? "Apply writes edge.toml, and the agent takes it as with culling edge reload." : "This view only shows: paste the TOML and run culling edge reload, or set view.actions.");
}
// What can be done now. A button that keeps the focus is only told to be off: the focus of one that is disabled falls to the page.
export function offer() {
  $("apply").hidden = !state.actions;
  $("apply").setAttribute("aria-disabled", String(!state.dirty || state.busy || (known && Boolean(wrong))));
  $("discard").hidden = !state.dirty || state.busy;
}
