import { $, h, put } from "./dom.js";
import { get, poller } from "./link.js";
import { state } from "./state.js";
import { count, link, sinceOf, span, stamp } from "./words.js";

// What is wrong now, and was lately, by the rules of Prometheus; what somebody has seen is remembered by this browser

const SEEN = `culling seen ${location.pathname}`, EVERY = 5000, NAMED = 20;
const keyOf = one => `${one.camera} ${one.alert} ${Math.round(one.since)}`;
const read = () => { try { return JSON.parse(localStorage.getItem(SEEN)) || {}; } catch { return {}; } };
const write = seen => { try { localStorage.setItem(SEEN, JSON.stringify(seen)); } catch { /* a browser that keeps nothing */ } };

export function alertsView() {
  const now = h("div", { class: "alerts ringing" }), unseen = h("p", { class: "unseen warn" }), before = h("div", { class: "alerts" }), ask = h("button", { onclick: () => Notification.requestPermission().then(redraw) }, "notify me in this browser"), later = h("h2", {}, "Lately");
  const node = h("div", {}, h("h1", {}, "Alerts"), h("div", { class: "bar" }, ask), now, unseen, later, before);
  let last = null;
  function acknowledge(one, done) {
    const seen = read();
    if (done) seen[keyOf(one)] = 1; else delete seen[keyOf(one)];
    const present = new Set(last.now.map(keyOf));  // others are over, and would only pile up
    write(Object.fromEntries(Object.entries(seen).filter(([key]) => present.has(key))));
    redraw();
    tally(last);
  }
  function card(one, over) {
    const seen = !over && read()[keyOf(one)];
    return h("section", { class: "panel alert", "data-rank": over || seen ? 4 : one.page ? 0 : 1, "data-alert": one.alert },
      h("div", {}, h("span", { class: "word" }, one.word), " ", one.camera ? h("a", { href: link(one.camera) }, one.camera) : "the service", " ", h("span", { class: "soft" }, over ? `${stamp(one.since)}, for ${span(one.until - one.since)}${one.longer ? " or longer" : ""}` : sinceOf(one))),
      h("p", {}, one.cause), over ? "" : h("p", { class: "todo" }, one.do), h("p", { class: "small soft" }, `${one.alert} in the runbook and in Prometheus; ${one.page ? "it pages" : "it waits for the morning"}`),
      over ? "" : h("button", { "aria-pressed": String(Boolean(seen)), onclick: () => acknowledge(one, !seen) }, seen ? "seen" : "mark as seen"));
  }
  const calm = text => { if (now.textContent !== text) now.replaceChildren(h("p", { class: "soft" }, text)); };
  // No rule of Prometheus knows a camera that never spoke, so that it is no alert; yet it waits for somebody.
  function tick() {
    const names = [...state.cameras.values()].filter(row => row.standing.word === "never seen").map(row => row.camera).sort();
    unseen.hidden = !names.length;
    put(unseen, `${count(names.length, "camera was", "cameras were")} never seen: ${names.slice(0, NAMED).join(", ")}${names.length > NAMED ? `, and ${names.length - NAMED} more` : ""}.`);
    if (last && !last.now.length) calm(names.length ? "Nothing else is wrong now." : "Nothing is wrong now.");
  }
  function redraw() {
    ask.hidden = typeof Notification === "undefined" || Notification.permission !== "default";
    if (!last) return;
    const seen = read(), order = one => (seen[keyOf(one)] ? 2 : 0) + (one.page ? 0 : 1);
    now.replaceChildren(...(last.now.length ? [...last.now].sort((a, b) => order(a) - order(b)).map(one => card(one, false)) : []));
    before.replaceChildren(...last.before.map(one => card(one, true)));
    later.hidden = !last.before.length;
    tick();
  }
  const poll = poller(() => "api/alerts", (found, error) => { if (error) put(now, error.message); else { last = found; redraw(); tally(found); } });
  return { node, tick, news: tick, close: poll.close, drawn: poll.turn };
}

// How many ring that nobody has seen, beside the link to them; a new one that pages is told by the browser, where it may.
let rung = null;
function tally(found) {
  const seen = read(), open = found.now.filter(one => !seen[keyOf(one)]), mark = $("alerts");
  if (mark) { mark.hidden = !open.length; put(mark, String(open.length)); }
  const keys = new Set(found.now.map(keyOf));
  if (rung && typeof Notification !== "undefined" && Notification.permission === "granted") {
    for (const one of open) if (!rung.has(keyOf(one))) new Notification(`${one.camera || "Culling"}: ${one.word}`, { body: one.cause, tag: keyOf(one) });
  }
  rung = keys;
}
export function watchAlerts() {
  const look = () => { if (state.heardAt) get("api/alerts").then(tally).catch(() => {}); };
  setInterval(look, EVERY);
  setTimeout(look, 500);
}
