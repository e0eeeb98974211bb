import { act, may, sure } from "./actions.js";
import { h } from "./dom.js";
import { poller } from "./link.js";
import { bytes, real, span, stamp } from "./words.js";

export function modelsPane(name, answer) {
  const body = h("tbody"), node = h("div", { class: "scroll" }, h("table", { class: "models" }, h("thead", {}, h("tr", {}, ["model", "state", "in use", "from", "scale", "size", "created", "swap", ""].map((text, at) => h("th", { class: at === 4 || at === 5 ? "n" : null }, text)))), body));
  function draw(found, error) {
    if (error) { node.replaceChildren(h("p", { class: "bad" }, error.message)); return; }
    body.replaceChildren(...found.map(model => h("tr", {},
      h("td", { class: "name" }, model.model_id, h("span", { class: "sub hash" }, model.sha256)), h("td", { "data-k": "state" }, model.state), h("td", { class: model.runs ? "good" : "soft", "data-k": "in use" }, model.runs ? "yes" : "no"),
      h("td", { "data-k": "from" }, model.round ? `round ${model.round}` : model.origin), h("td", { class: "n", "data-k": "scale" }, real(model.scale)), h("td", { class: "n", "data-k": "size" }, bytes(model.size)), h("td", { "data-k": "created" }, stamp(model.created)),
      h("td", { title: model.reason, "data-k": "swap" }, model.swap ? `${model.swap}, gap ${span(model.gap_ms / 1000)}` : "–"),
      h("td", { class: "acts" }, may() && model.kept && model.state !== "live" ? h("button", { onclick: () => sure(`Make ${model.model_id} the live model of ${name}?`, () => act(answer, name, "publish", { model_id: model.model_id })) }, "publish") : "", " ",
        may() && model.kept ? h("button", { onclick: () => sure(`Keep ${name} on ${model.model_id}, even if rounds make better models?`, () => act(answer, name, "pin", { model_id: model.model_id })) }, "pin") : ""))));
  }
  const poll = poller(() => `api/cameras/${encodeURIComponent(name)}/models`, draw);
  return { node, close: poll.close, drawn: poll.turn };
}
