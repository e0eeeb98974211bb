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

let due = 0, asked = 0;
export function changed() {
  clearTimeout(due);
  put($("answer"), "");
  due = setTimeout(check, 120);
}
async function check() {
  const mine = ++asked, camera = state.camera;
  try {
    const { toml } = await (await ask(`api/cameras/${encodeURIComponent(camera)}/check`, tables())).json();
    if (mine === asked) told(toml, "");
  } catch (error) {
    if (mine === asked) told("", error.message);
  }
}
function told(toml, wrong) {
  if (toml) put($("toml"), toml);
  $("toml").classList.toggle("old", Boolean(wrong));
  put($("wrong-regions"), wrong);
  $("copy").disabled = Boolean(wrong);
  $("apply").hidden = !state.actions;
  $("apply").disabled = Boolean(wrong) || !state.dirty;
  $("discard").hidden = !state.dirty;
  put($("applies"), state.actions ? "Apply writes edge.toml, and the agent takes it as with culling edge reload." : "This view only shows: paste the TOML and run culling edge reload, or set view.actions.");
}
