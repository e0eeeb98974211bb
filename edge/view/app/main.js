import { $, h, put } from "./dom.js";
import { draw, leave, listen, show } from "./editor.js";
import { forgetRates, lost, tell } from "./facts.js";
import { ask, look, lookElsewhere } from "./link.js";
import { current, keepToken, state } from "./state.js";
import { changed, fromTables, tables } from "./toml.js";

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
  forgetRates();
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
async function apply() {
  const regions = tables();
  answer("applying …", "soft");
  $("apply").disabled = true;
  try {
    const told = await (await ask(`api/cameras/${encodeURIComponent(state.camera)}/regions`, { regions, before: state.before })).json();
    await readCameras();
    adopt();
    answer(`in force: ${told.answer}`, "good");
  } catch (error) {
    answer(error.message, "bad");
    changed();
  }
}
function answer(text, kind) { $("answer").className = kind; put($("answer"), text); }
async function copy() {
  try {
    await navigator.clipboard.writeText($("toml").textContent);
    answer("copied", "good");
  } catch {  // without TLS, a page of another machine has no clipboard
    getSelection().selectAllChildren($("toml"));
    answer("selected: copy it with Ctrl+C", "soft");
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
$("discard").addEventListener("click", adopt);
$("copy").addEventListener("click", copy);
listen();
show();
setInterval(refresh, AGAIN_MS);
begin();
