import { offer } from "./actions.js";
import { alertsView, watchAlerts } from "./alerts.js";
import { deedsView } from "./deeds.js";
import { cameraView } from "./camera.js";
import { $, h } from "./dom.js";
import { fleetView } from "./fleet.js";
import { connect, get } from "./link.js";
import { roundsView } from "./rounds.js";
import { state } from "./state.js";

// Views: each has `node`, and may have `drawn` (it is on the page), `news` (rows came), `tick` (a second passed), `close`

const NAV = { "": "cameras", rounds: "rounds", alerts: "alerts", audit: "who did what" };
const mark = h("span", { id: "alerts", class: "mark-count", hidden: true });

function route() {
  const [where, name, tab] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  if (state.view.close) state.view.close();
  state.view = where === "camera" && name ? cameraView(name, tab || "now") : where === "rounds" ? roundsView(null) : where === "alerts" ? alertsView() : where === "audit" ? deedsView() : fleetView();
  $("view").replaceChildren(state.view.node);
  if (state.view.drawn) state.view.drawn();
  document.title = name ? `${name} – Culling` : where ? `${NAV[where] || where} – Culling` : "Culling";
  const here = where === "camera" ? "" : where;
  $("crumbs").replaceChildren(...Object.entries(NAV).filter(([key]) => key !== "audit" || state.token || state.me.role === "admin").map(([key, text]) => h("a", { href: `#/${key}`, "aria-current": key === here ? "page" : null }, text, key === "alerts" ? mark : null)), ...(name ? [h("span", { class: "soft" }, `/ ${name}`)] : []));
}

addEventListener("hashchange", () => {
  if ($("dialog").open) $("dialog").close();  // it speaks of the view that is left
  route();
});
connect();
route();
watchAlerts();
Promise.all([get("api/actions"), get("api/me")]).then(([found, me]) => { state.actions = found.actions; state.me = me; offer(); route(); }).catch(() => {});
