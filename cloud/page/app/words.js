import { now } from "./state.js";

// Numbers and times for people

export const whole = value => Math.round(value).toLocaleString("en");
export const percent = share => share == null ? "–" : share === 0 ? "0 %"
  : `${(100 * share).toFixed(share < 0.001 ? 3 : share < 0.0995 ? 2 : 1)} %`;
export const real = (value, digits = 2) => value == null ? "–" : value.toFixed(digits);
export const signed = (value, digits = 2) => `${value >= 0 ? "+" : "−"}${Math.abs(value).toFixed(digits)}`;
export const count = (number, thing, more = `${thing}s`) => `${whole(number)} ${number === 1 ? thing : more}`;
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
  if (seconds < 100) return `${seconds < 10 ? +seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}
export const ago = at => { const age = Math.max(0, now() - at); return age < 10 ? "now" : `${span(age)} ago`; };
export const clock = (at, seconds) => new Date(1000 * at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined });
export const stamp = at => at == null ? "–" : `${new Date(1000 * at).toLocaleDateString("en-GB", { day: "2-digit", month: "short" })} ${clock(at)}`;
export const link = (name, tab) => `#/camera/${encodeURIComponent(name)}${tab ? `/${tab}` : ""}`;

// What is said of a camera

// Things that happened at a time; everything else lasts since it began.
const EVENTS = ["rolled back", "rejected", "round failed"];
export function sinceOf(standing) {
  if (standing.since == null) return "";
  return EVENTS.includes(standing.word) ? `at ${now() - standing.since > 43200 ? stamp(standing.since) : clock(standing.since)}` : `for ${span(Math.max(1, Math.floor(now() - standing.since)))}${standing.longer ? " or longer" : ""}`;
}
// The fleet in one sentence, as `culling watch` says it too.
export function sentence(rows) {
  const fine = rows.filter(row => row.standing.word === "fine").length;
  const needy = rows.filter(row => row.standing.rank < 3).sort((a, b) => a.standing.rank - b.standing.rank);
  const parts = needy.slice(0, 3).map(row => [row.camera, ` ${row.standing.word} ${sinceOf(row.standing)}`.trimEnd()]);
  return { head: `${fine} of ${count(rows.length, "camera")} fine`, parts, more: needy.length - parts.length };
}
// What the round of a camera does now, else what its next one waits for.
export function roundOf(row) {
  const next = row.next_round;
  if (row.round) return `round ${row.round.id}: ${row.round.told}`;
  if (!next) return row.state === "revoked" ? "" : "next round is due";
  return next.at == null ? next.told : `${next.waiting} of ${next.needed} labelled frames, next round about ${clock(next.at)}`;
}
export const accuracyOf = row => row.accuracy?.ap50 ?? null;
export const wrongOf = row => row.accuracy ? `at most ${percent(row.accuracy.wrong.high)} of records mostly wrong` : "";
export const interval = one => `${real(one.value)} (${real(one.low)} to ${real(one.high)})`;
// Where accuracy goes: a fall that chance does not explain, else what the gate found when this model came.
export function trendOf(row) {
  if (row.worse?.length) return { word: row.worse[0], tone: "bad", sign: "▼" };
  const gain = row.gain;
  if (!gain || gain.model_id !== row.model || gain.map_before == null) return null;
  const by = gain.map_after - gain.map_before;
  return { word: `${signed(by)} when it came`, tone: by > 0 ? "good" : "bad", sign: by > 0 ? "▲" : "▼", by };
}
export const paceOf = row => row.keeping_up?.told ?? (row.state === "live" ? "…" : "–");
// What somebody asked of it that lasts.
export const askedOf = row => [row.held ? "rounds held" : "", row.pinned ? `pinned to ${row.pinned}` : "", row.frames_per_window ? `budget ${row.frames_per_window} a window` : "",
  row.paused && row.standing.word !== "paused" ? "paused" : ""].filter(Boolean).join(", ");
export const ageOf = row => row.made ? `${span(Math.max(0, now() - row.made))} old` : "";
