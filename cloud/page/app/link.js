import { $ } from "./dom.js";
import { now, state } from "./state.js";
import { clock } from "./words.js";

// The link

const SILENT = 25000;
let source = null, again = 0, tried = 0;  // `tried`: when it connected last; `state.heardAt` is only ever the time of the last word
export function connect() {
  clearTimeout(again);
  tried = Date.now();
  if (source) source.close();
  source = new EventSource("events");
  source.addEventListener("fleet", event => take(JSON.parse(event.data)));
  source.addEventListener("ping", event => { state.skew = Number(event.data) - Date.now() / 1000; heard(); });
  source.onerror = () => { lose(); if (source.readyState === EventSource.CLOSED) retry(); };
}
function retry() { clearTimeout(again); again = setTimeout(connect, 2000 + 3000 * Math.random()); }
function heard() {
  state.heardAt = Date.now();
  document.body.classList.remove("stale");
  $("lost").hidden = true;
  $("link").className = "on";
}
function lose() {
  document.body.classList.add("stale");
  $("lost").hidden = false;
  $("lost").textContent = state.heardAt ? `Connection lost: figures are of ${clock(state.heardAt / 1000, true)}. Retrying …` : "No connection yet. Retrying …";
  $("link").className = "off";
  $("link").textContent = "not connected";
}
function take(news) {
  state.skew = news.now - Date.now() / 1000;
  heard();
  if (news.all) { state.cameras.clear(); state.sparks = {}; }
  for (const row of news.cameras) state.cameras.set(row.camera, row);
  if (news.sparks) takeSlots(news.sparks, news.day);
  if (state.view.news) state.view.news(news);
}
// Only slots that changed are sent; those that began before `day` are over, also of a camera that is silent.
function takeSlots(sparks, day) {
  const all = { ...state.sparks };
  for (const name of new Set([...Object.keys(all), ...Object.keys(sparks)])) {
    const old = all[name] || [];
    if (!sparks[name] && (!old.length || old[0].t >= day)) continue;
    const slots = new Map([...old, ...(sparks[name] || [])].map(slot => [slot.t, slot]));
    all[name] = [...slots.values()].filter(slot => slot.t >= day).sort((a, b) => a.t - b.t);
  }
  state.sparks = all;
}
setInterval(() => {
  if (state.heardAt && Date.now() - Math.max(state.heardAt, tried) > SILENT) { lose(); connect(); }
  if ($("link").className === "on") $("link").textContent = clock(now(), true);
  if (state.view.tick) state.view.tick();
}, 1000);
// Asks the service. Browsers have words of their own for one that does not answer, and no two the same.
const MUTE = "The service does not answer";
export const reach = (path, options) => fetch(path, options).catch(() => { throw new Error(MUTE); });
export async function get(path, headers = {}) {
  const answer = await reach(path, { cache: "no-store", headers });
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Error(said.error || said.detail || `${answer.status} ${answer.statusText}`);
  }
  return answer.json();
}

// Fetches `path`, or what it returns a promise of, now and again, every two seconds if nothing else is said, while the page is looked at; draws only what changed.
export function poller(path, draw, every = 2000) {
  let last = "", closed = false;
  async function turn(force) {
    if (closed || (document.hidden && !force)) return;
    try {
      const asked = path(), found = await (typeof asked === "string" ? get(asked) : asked), text = JSON.stringify(found);
      if (!closed && (force || text !== last)) { last = text; draw(found); }
    } catch (error) {
      if (!closed && !last) draw(null, error.message === MUTE ? new Error(`${MUTE}; trying again`) : error);
    }
  }
  const timer = setInterval(turn, every), resized = () => { last = ""; turn(true); };
  addEventListener("resize", resized);
  return { turn: () => turn(true), close: () => { closed = true; clearInterval(timer); removeEventListener("resize", resized); } };
}
export const inside = node => Math.max(260, node.clientWidth - 34);
