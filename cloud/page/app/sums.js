import { state } from "./state.js";

// Frames by reason, added up over a day

export const REASONS = ["hard", "audit", "bootstrap", "manual"];
export const total = slot => REASONS.reduce((sum, reason) => sum + (slot[reason] || 0), 0);


// `state.sparks` and each camera's slots in it are replaced, never changed, so that sums hold for as long as those stand.
const sums = new WeakMap(), NONE = [];
export function dayOf(camera) {
  const slots = state.sparks[camera] || NONE;
  if (!sums.has(slots)) {
    const seen = slots.reduce((sum, slot) => sum + slot.seen, 0), sent = slots.reduce((sum, slot) => sum + total(slot), 0);
    sums.set(slots, { slots, seen, sent, rate: seen ? sent / seen : null });
  }
  return sums.get(slots);
}
// One scale for every camera's day. One that floods, or that saw little in its first half hour, must not flatten the others.
const scaled = { of: null, top: 0 };
export function dayTop() {
  if (scaled.of !== state.sparks) {
    const rates = Float64Array.from(Object.values(state.sparks).flat().filter(slot => slot.seen), slot => total(slot) / slot.seen).sort();
    scaled.top = +(rates[Math.floor(0.99 * (rates.length - 1))] || 0.01).toPrecision(2);
    scaled.of = state.sparks;
  }
  return scaled.top;
}
