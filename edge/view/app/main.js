import { $, h, put } from "./dom.js";
import { draw, leave, listen, show } from "./editor.js";
import { forget, lost, tell, watchSilence } from "./facts.js";
import { ask, look, lookElsewhere } from "./link.js";
import { current, keepToken, state } from "./state.js";
import { changed, fromTables, merged, offer, tables, verdict } from "./toml.js";

// The page: first the token, then the cameras, then one picture after the other

const AGAIN_MS = 5000;
let looking = false;

async function begin() {
  try {
    if (!state.token && (await (await ask("api/access")).json()).token) { lock(""); return; }
    await readCameras();
  } catch (error) {
    if (error.status === 401) { lock(state.token ? error.message : ""); return; }
    lost(error);
    setTimeout(begin, AGAIN_MS);
    return;
  }
  $("locked").hidden = true;
  $("open").hidden = $("chooser").hidden = false;
  pick(state.cameras.some(one => one.name === wanted()) ? wanted() : state.cameras[0]?.name || "");
  if (!looking) { looking = true; look(take, gone).then(() => { looking = false; }); }
}
const wanted = () => decodeURIComponent(location.hash.slice(1));
function lock(why) {
  $("open").hidden = $("chooser").hidden = true;
  $("locked").hidden = false;
  put($("wrong"), why);
  put($("link"), "locked");
  $("token").focus();
}
async function readCameras() {
  const found = await (await ask("api/cameras")).json();
  Object.assign(state, { cameras: found.cameras, actions: found.actions });
  const choice = $("camera"), names = state.cameras.map(one => one.state === "live" ? one.name : `${one.name} (${one.state})`);
  if (names.join("\n") === [...choice.options].map(one => one.text).join("\n")) return;  // one that is open is left alone
  choice.replaceChildren(...state.cameras.map((one, at) => h("option", { value: one.name }, names[at])));
  choice.value = state.camera;
}
function pick(name) {
  if (name === state.camera && state.before) return;
  Object.assign(state, { camera: name, picture: null, head: null });
  $("camera").value = name;
  if (wanted() !== name) history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  forget();
  adopt();
  lookElsewhere();
}
// Takes the regions that are in force.
function adopt() {
  state.before = current()?.regions || { mask: [], ignore: [], zone: [] };
  state.regions = fromTables(state.before);
  state.dirty = false;
  leave();
  changed();
}
function take(head, picture) {
  if (picture) { state.picture?.close(); Object.assign(state, { picture, head }); }
  tell(head);
  draw();
}
function gone(error) {
  if (error.status === 401) { lock(error.message); return true; }
  lost(error);
  return false;
}
async function refresh() {
  if (document.hidden || !looking) return;
  try {
    await readCameras();
    if (!current()) pick(state.cameras[0]?.name || "");
    else if (!state.dirty && JSON.stringify(current().regions) !== JSON.stringify(state.before)) adopt();
  } catch { return; }  // whoever asks for pictures says it
}
const path = act => `api/cameras/${encodeURIComponent(state.camera)}/${act}`;
async function apply() {
  if ($("apply").getAttribute("aria-disabled") === "true") return;
  const camera = state.camera;
  await doing("applying …", async () => {
    if (await verdict()) { answer("Nothing was applied: what is wrong stands below.", "bad"); return; }
    const regions = tables();
    const told = await (await ask(path("regions"), { regions, before: state.before })).json();
    const fresh = await readCameras().then(() => true, () => false);
    if (camera !== state.camera) return;
    if (fresh && JSON.stringify(regions) === JSON.stringify(tables())) adopt();
    else if (fresh) state.before = current().regions;  // somebody draws on
    answer(`in force: ${told.answer}`, "good");
  }, unapplied);
}
// No refusal goes unsaid: was anything written, and what can be done.
function unapplied(error) {
  const unknown = !error.status || error.status === 500 || error.status === 502 || error.status === 504;
  const why = error.status ? error.message : "no answer came";
  changed();
  answer(error.written ? why : unknown ? `It is not known whether this was applied (${why}): read the file anew.` : `Nothing was applied: ${why}`, "bad");
  $("reread").hidden = !(error.written || unknown || error.status === 409);
}
async function reread() {
  const camera = state.camera;
  await doing("reading …", async () => {
    await ask(path("reread"), {});
    await readCameras();
    if (camera !== state.camera) return;
    const now = current().regions, both = merged(state.before, now);
    Object.assign(state, { before: now, regions: fromTables(both), dirty: JSON.stringify(both) !== JSON.stringify(now) });
    leave();
    changed();
    $("apply").focus();
    answer("Read anew. What you drew is kept, and what others changed is in it: look at it, then apply.", "good");
  }, error => {
    answer(`Not read anew: ${error.status ? error.message : "no answer came"}`, "bad");
    $("reread").hidden = false;
  });
}
// One thing at a time; whoever has no right to it is asked for the token, and keeps what is drawn.
async function doing(words, act, refused) {
  if (state.busy) return;
  state.busy = true;
  offer();
  answer(words, "soft");
  try { await act(); } catch (error) {
    refused(error);
    if (error.status === 401) lock(`${$("answer").textContent}. What is drawn is kept.`);
  }
  state.busy = false;
  offer();
}
function answer(text, kind) { $("answer").className = kind; put($("answer"), text); }
async function copy() {
  try {
    await navigator.clipboard.writeText($("toml").textContent);
    put($("copied"), "copied");
  } catch {  // without TLS, a page of another machine has no clipboard
    getSelection().selectAllChildren($("toml"));
    put($("copied"), "selected: copy it with Ctrl+C");
  }
}
function toggle(id, key) {
  $(id).addEventListener("click", () => { state[key] = !state[key]; $(id).setAttribute("aria-pressed", String(state[key])); draw(); });
}

$("locked").addEventListener("submit", event => { event.preventDefault(); keepToken($("token").value.trim()); $("token").value = ""; begin(); });
$("camera").addEventListener("change", () => pick($("camera").value));
addEventListener("hashchange", () => { if (state.cameras.some(one => one.name === wanted())) pick(wanted()); });
$("floor").addEventListener("input", () => { state.floor = Number($("floor").value); put($("floor-told"), state.floor.toFixed(2)); draw(); });
toggle("boxes", "boxes");
toggle("outlines", "outlines");
$("apply").addEventListener("click", apply);
$("discard").addEventListener("click", () => { adopt(); $("canvas").focus(); });
$("reread").addEventListener("click", reread);
$("copy").addEventListener("click", copy);
listen();
show();
setInterval(refresh, AGAIN_MS);
watchSilence();
begin();
