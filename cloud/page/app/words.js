import { now } from "./state.js";

// Numbers and times for people

export const whole = value => Math.round(value).toLocaleString("en");
export const percent = share => share == null ? "–" : share === 0 ? "0 %"
  : `${(100 * share).toFixed(share < 0.001 ? 3 : share < 0.0995 ? 2 : 1)} %`;
export const real = (value, digits = 2) => value == null ? "–" : value.toFixed(digits);
export function bytes(value) {
  if (value == null) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < 4) { value /= 1000; at++; }
  return `${value.toFixed(at && value < 10 ? 1 : 0)} ${units[at]}`;
}
export function span(seconds) {
  if (seconds == null) return "–";
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 100) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}
export const ago = at => { const age = Math.max(0, now() - at); return age < 10 ? "now" : `${span(age)} ago`; };
export const clock = (at, seconds) => new Date(1000 * at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined });
export const stamp = at => at == null ? "–" : `${new Date(1000 * at).toLocaleDateString("en-GB", { day: "2-digit", month: "short" })} ${clock(at)}`;
export const WORDS = { live: "live", frozen: "frozen", down: "down", ended: "ended", unseen: "never seen", revoked: "revoked" };
// What the round of a camera does now, else what its next one waits for.
export function roundOf(row) {
  const next = row.next_round;
  if (row.round) return `round ${row.round.id}: ${row.round.told}`;
  if (!next) return row.state === "revoked" ? "" : "next round is due";
  return next.at == null ? next.told : `${next.waiting} of ${next.needed} labelled frames, next round about ${clock(next.at)}`;
}
export function reasonOf(row) {
  if (row.state === "down") return row.told && ["live", "frozen", "ended", "stopped"].includes(row.told) ? "edge is silent" : row.told || "";
  return [row.paused ? row.obeys === false ? "pause pending" : "paused" : "", row.held ? "rounds held" : "", row.frames_per_window ? `budget ${row.frames_per_window}` : ""].filter(Boolean).join(", ");
}

export const link = (name, tab) => `#/camera/${encodeURIComponent(name)}${tab ? `/${tab}` : ""}`;
