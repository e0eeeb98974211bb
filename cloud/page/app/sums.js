import { state } from "./state.js";

// Frames by reason, added up over a day

export const REASONS = ["hard", "audit", "bootstrap", "manual"];
export const total = slot => REASONS.reduce((sum, reason) => sum + (slot[reason] || 0), 0);

export function dayOf(camera) {
  const slots = state.sparks[camera] || [], seen = slots.reduce((sum, slot) => sum + slot.seen, 0);
  const sent = slots.reduce((sum, slot) => sum + total(slot), 0);
  return { slots, seen, sent, rate: seen ? sent / seen : null };
}
// One scale for every camera's day. One that floods, or that saw little in its first half hour, must not flatten the others.
export function dayTop() {
  const rates = Object.values(state.sparks).flat().filter(slot => slot.seen).map(slot => total(slot) / slot.seen).sort((a, b) => a - b);
  return +(rates[Math.floor(0.99 * (rates.length - 1))] || 0.01).toPrecision(2);
}
