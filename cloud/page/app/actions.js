import { $, h } from "./dom.js";
import { get, reach } from "./link.js";
import { TOKEN, state } from "./state.js";

// Requests

// Whether whoever looks may act: by the token, or by what the page knows of them; on a camera, or on any.
const trusted = name => state.me.acts && (state.me.on === null || !name || state.me.on.includes(state.cameras.get(name)?.edge));
export const may = name => Boolean(state.actions && (state.token || trusted(name)));
export const auth = () => state.token ? { "X-Culling-Token": state.token } : {};
export function buttons(row, answer) {
  if (!may(row.camera)) return [];
  const name = row.camera, button = (text, kind, extra, question) => h("button", { onclick: () => question ? sure(question, () => act(answer, name, kind, extra)) : act(answer, name, kind, extra) }, text);
  return [
    button("start a round", "round"), button(row.frame_asked ? "frame requested" : "forward a frame now", "frame"),
    row.paused ? button("resume forwarding", "resume") : button("pause forwarding", "pause", null, `Stop ${name} from forwarding frames until resumed? Frames already in its spool are still sent.`),
    row.held ? button("resume rounds", "unhold") : button("hold rounds", "hold"), h("button", { onclick: () => budget(row, answer) }, "budget …"),
    row.pinned ? button(`unpin ${row.pinned}`, "unpin") : button("pin the model", "pin"), row.before ? button("roll back", "rollback", null, `Roll ${name} back from ${row.live} to ${row.before}? The edge downloads ${row.before}, tries it on golden frames and swaps between two frames; detection goes on meanwhile. ${row.live} is never used again.`) : "",
  ];
}
export async function act(answer, camera, kind, extra) {
  answer.className = "answer small soft";
  answer.textContent = `${kind}: requested …`;
  try {
    const asked = await reach("api/actions", { method: "POST", headers: { "Content-Type": "application/json", ...auth() }, body: JSON.stringify({ kind, camera, ...extra }) });
    const told = await asked.json();
    if (!asked.ok) throw new Error(told.detail || told.error);
    for (let tries = 0; tries < 40; tries++) {
      await new Promise(done => setTimeout(done, 250));
      const found = await get(`api/requests/${told.request}`);
      if (found.done) { if (!found.ok) throw new Error(found.answer); answer.className = "answer small good"; answer.textContent = `${kind}: ${found.answer}`; return; }
    }
    answer.textContent = `${kind}: request ${told.request} is waiting to be carried out`;
  } catch (error) {
    answer.className = "answer small bad";
    answer.textContent = `${kind}: ${error.message}`;
  }
}
// Shows something large over the page, with buttons below it; `typed` hears the keys.
export function open(kids, below, typed) {
  const dialog = $("dialog");
  dialog.className = "big";
  dialog.replaceChildren(...kids, h("div", { class: "bar" }, below, h("button", { onclick: () => dialog.close() }, "close")));
  dialog.onkeydown = typed;
  dialog.showModal();
}
function form(question, kids, done) {
  const box = h("form", { method: "dialog", onsubmit: event => { event.preventDefault(); $("dialog").close(); done(); } }, h("p", {}, question), kids,
    h("div", { class: "bar" }, h("button", { type: "button", onclick: () => $("dialog").close() }, "cancel"), h("button", { type: "submit" }, "ok")));
  $("dialog").className = "";
  $("dialog").onkeydown = null;
  $("dialog").replaceChildren(box);
  $("dialog").showModal();
}
export const sure = (question, done) => form(question, [], done);
function budget(row, answer) {
  const field = h("input", { type: "number", min: 1, max: 100000, value: row.frames_per_window, "aria-label": "frames per window", placeholder: "budget in its settings" });
  form(`Frames that ${row.camera} may forward per window. Leave it empty for the budget in its settings.`, [field], () => act(answer, row.camera, "budget", { frames_per_window: field.value ? Number(field.value) : null }));
}
function unlock(wrong) {
  const field = h("input", { type: "password", autocomplete: "off", "aria-label": "token" });
  form([wrong ? h("span", { class: "bad" }, wrong, " ") : "", "Token (the line in page.token of the service's data folder); it stays in this tab."], [field], async () => {
    const found = await reach("api/actions", { headers: { "X-Culling-Token": field.value.trim() } }).catch(error => ({ ok: false, told: error.message }));
    if (!found.ok) { unlock(found.told || "Wrong token."); return; }
    state.token = field.value.trim();
    sessionStorage.setItem(TOKEN, state.token);
    offer();
    dispatchEvent(new Event("hashchange"));
  });
}
export function offer() {
  $("unlock").hidden = !state.actions || (state.me.acts && !state.token);
  $("unlock").textContent = state.token ? "lock" : "unlock …";
}
$("unlock").addEventListener("click", () => {
  if (!state.token) { unlock(""); return; }
  state.token = "";
  sessionStorage.removeItem(TOKEN);
  offer();
  dispatchEvent(new Event("hashchange"));
});
