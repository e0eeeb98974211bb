import { state } from "./state.js";

export const REASONS = ["hard", "audit", "bootstrap", "manual"];
export const total = slot => REASONS.reduce((sum, reason) => sum + (slot[reason] || 0), 0);

export function dayOf(camera) {
  const slots = state.sparks[camera] || [], seen = slots.reduce((sum, slot) => sum + slot.seen, 0);
  const sent = slots.reduce((sum, slot) => sum + total(slot), 0);
  return { slots, seen, sent, rate: seen ? sent / seen : null };
}

export function fleetNow() {
  const rows = [...state.cameras.values()], add = (list, of) => list.reduce((sum, one) => sum + of(one), 0);
  const telling = rows.filter(row => row.fps != null && row.rate != null), fps = add(telling, row => row.fps);
  const days = rows.map(row => dayOf(row.camera)), seen = add(days, day => day.seen);
  return {
    rows, fps: telling.length ? fps : null, rate: fps ? add(telling, row => row.rate * row.fps) / fps : null,
    day: seen ? add(days, day => day.sent) / seen : null, live: rows.filter(row => row.state === "live").length,
    down: rows.filter(row => ["down", "frozen"].includes(row.state)).length,
    told: rows.filter(row => row.keeping_up).length, slow: rows.filter(tooSlow).length,
    bytes: add(rows, row => row.spool_bytes || 0), waiting: add(rows, row => row.waiting),
  };
}
// A student that misses more than one frame of five: a camera is live, but hardly looked at.
export const tooSlow = row => row.keeping_up?.enough === false;
// One scale for every camera's day. One that floods, or that saw little in its first half hour, must not flatten the others.
export function dayTop() {
  const rates = Object.values(state.sparks).flat().filter(slot => slot.seen).map(slot => total(slot) / slot.seen).sort((a, b) => a - b);
  return +(rates[Math.floor(0.99 * (rates.length - 1))] || 0.01).toPrecision(2);
}
