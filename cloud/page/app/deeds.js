import { auth } from "./actions.js";
import { h, put } from "./dom.js";
import { get, poller } from "./link.js";
import { link, stamp } from "./words.js";

// Who did what, newest first; for admins

const DEED_COLUMNS = ["when", "who", "what", "camera", "how it ended"];

export function deedsView() {
  const body = h("tbody"), none = h("p", { class: "soft" });
  const node = h("div", {}, h("h1", {}, "Who did what"), none, h("table", { class: "models" }, h("thead", {}, h("tr", {}, DEED_COLUMNS.map(text => h("th", {}, text)))), body));
  const more = row => row.answer || Object.entries(row.what).map(([key, value]) => `${key} ${value}`).join(", ");
  const line = row => h("tr", {}, [stamp(row.at), [row.who, row.address].filter(Boolean).join(", "), row.action, row.camera ? h("a", { href: link(row.camera) }, row.camera) : "", [row.outcome, more(row)].filter(Boolean).join(": ")]
    .map((cell, at) => h("td", { "data-k": DEED_COLUMNS[at] }, cell)));
  const poll = poller(() => get("api/deeds", auth()), (found, error) => {
    put(none, error ? error.message : found.length ? "" : "Nothing was done yet.");
    body.replaceChildren(...(found || []).map(line));
  });
  return { node, close: poll.close, drawn: poll.turn };
}
