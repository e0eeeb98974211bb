// Words and numbers for people.
export const counted = (number, one, more = `${one}s`) => `${number} ${number === 1 ? one : more}`;
export const clock = seconds => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
export function ago(seconds) {
  if (seconds < 1.5) return "just now";
  return seconds < 90 ? `${Math.round(seconds)} s ago` : seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}
export const byClass = counts => Object.entries(counts).sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([name, count]) => `${count}× ${name}`).join(", ") || "nothing";
