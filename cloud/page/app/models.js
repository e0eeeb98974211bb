import { act, may, sure } from "./actions.js";
import { h, put, s } from "./dom.js";
import { get, inside, poller } from "./link.js";
import { bytes, percent, real, signed, span, stamp } from "./words.js";

// Every model of a camera: how accurate each was by its gate, which one runs, what two of them differ in

const FIELDS = { state: one => one.state, from: one => [one.round ? `round ${one.round}${one.origin === "zoo" ? ", zoo" : ""}` : one.origin, one.twin ? `same file as ${one.twin}` : ""].filter(Boolean).join(", "), made: one => stamp(one.created), scale: one => real(one.scale), size: one => bytes(one.size), "AP50 by its gate": one => one.judged ? real(one.judged.map_after, 3) : "–", "trained on": one => one.judged?.kept ? `${one.judged.kept} frames` : "–", cost: one => one.judged?.bill?.told ?? "–", parent: one => one.parent || "–", swap: one => one.swap ? `${one.swap}, gap ${span(one.gap_ms / 1000)}` : "–" };

export function modelsPane(name, answer) {
  const trouble = h("p", { class: "bad" }), curve = h("div"), compared = h("div"), body = h("tbody"), heads = ["model", "state", "in use", "AP50", "from", "scale", "made", "swap", ""];
  const panel = h("section", { class: "panel" }, h("h2", {}, "Accuracy of every model, by its gate"), curve), pair = h("section", { class: "panel" }, h("h2", {}, "Two models beside each other"), compared);
  const node = h("div", {}, trouble, h("div", { class: "scroll" }, h("table", { class: "models" }, h("thead", {}, h("tr", {}, heads.map((text, at) => h(text ? "th" : "td", { class: [3, 5].includes(at) ? "n" : null }, text)))), body)), h("div", { class: "grid fit below" }, panel, pair));
  const path = `api/cameras/${encodeURIComponent(name)}`;
  let picked = null;  // by whoever looks; until then, what is of most interest
  async function both() {
    const [models, rounds] = await Promise.all([get(`${path}/models`), get(`api/rounds?limit=50&camera=${encodeURIComponent(name)}`)]);
    const judged = new Map(rounds.filter(turn => turn.model_id).map(turn => [turn.model_id, turn]));
    return models.map((model, at) => {  // signed anew, a file is as accurate as it was
      const twins = models.slice(at + 1).filter(one => sameFile(one, model)).reverse();
      const known = [model, ...twins].find(one => judged.has(one.model_id));
      return { ...model, twin: twins[0]?.model_id, judged: known ? judged.get(known.model_id) : null };
    });
  }
  function draw(models, error) {
    put(trouble, error ? error.message : "");
    if (error) return;
    const running = models.find(model => model.runs)?.model_id ?? "–";
    const doubt = (model, kind, text) => sure(text, () => act(answer, name, kind, { model_id: model.model_id }));
    body.replaceChildren(...models.map(model => h("tr", { class: model.runs ? "runs" : null },
      h("td", { class: "name" }, model.model_id, h("span", { class: "sub hash" }, model.sha256)), h("td", { "data-k": "state", title: model.gone ? `${model.model_id} ${model.gone}, and is never used again` : null }, model.provisional ? `${model.state}, provisional` : model.state), h("td", { class: model.runs ? "good" : "soft", "data-k": "in use" }, model.runs ? "yes" : "no"),
      h("td", { class: "n", "data-k": "AP50" }, gainOf(model)), h("td", { "data-k": "from" }, FIELDS.from(model)), h("td", { class: "n", "data-k": "scale" }, real(model.scale)), h("td", { "data-k": "made" }, stamp(model.created)),
      h("td", { title: model.reason, "data-k": "swap" }, FIELDS.swap(model)),
      h("td", { class: "acts" }, may(name) && model.kept && !model.gone && model.state !== "live" ? h("button", { onclick: () => doubt(model, "publish", `Make ${model.model_id} the live model of ${name}? ${preview(models, running, model)}`) }, "publish") : "", " ",
        may(name) && model.kept && model.back ? h("button", { onclick: () => sure(`Go back to ${model.model_id}? ${preview(models, running, model)} ${models.find(one => one.state === "live").model_id} is never used again.`, () => act(answer, name, "rollback")) }, "go back") : "", " ",
        may(name) && model.kept && !model.gone ? h("button", { onclick: () => doubt(model, "pin", `Keep ${name} on ${model.model_id}, even if rounds make better models? No round starts by itself until it is unpinned. ${preview(models, running, model)}`) }, "pin") : ""))));
    const drawn = models.filter(model => model.judged?.map_after != null).reverse();
    curve.replaceChildren(drawn.length ? judgedChart(inside(panel), drawn) : h("p", { class: "soft" }, "No model of this camera has been through a gate yet."));
    if (models.length < 2) { compared.replaceChildren(h("p", { class: "soft" }, models.length ? `There is only ${models[0].model_id}: nothing to put beside it yet.` : "This camera has no model yet.")); return; }
    const shown = picked?.every(id => models.some(model => model.model_id === id)) ? picked : pairOf(models);
    const choose = at => h("select", { "aria-label": at ? "the other model" : "one model", onchange: event => { shown[at] = event.target.value; picked = shown; compare(); } }, models.map(model => h("option", { value: model.model_id, selected: model.model_id === shown[at] }, model.model_id)));
    function compare() {
      const [one, other] = shown.map(id => models.find(model => model.model_id === id));
      if (!one || !other) return;
      table.replaceChildren(...Object.entries(FIELDS).map(([key, told]) => h("tr", { class: told(one) === told(other) ? "soft" : "differs" }, h("td", { class: "soft" }, key), h("td", {}, told(one)), h("td", {}, told(other)))));
    }
    const table = h("tbody");
    compared.replaceChildren(h("div", { class: "scroll" }, h("table", { class: "list pair" }, h("thead", {}, h("tr", {}, h("td"), h("th", {}, choose(0)), h("th", {}, choose(1)))), table)));
    compare();
  }
  const poll = poller(both, draw);
  return { node, close: poll.close, drawn: poll.turn };
}
const sameFile = (one, other) => one.sha256 === other.sha256 && one.scale === other.scale;
// The one in use, else the newest, and the newest other; one of another file rather than the same signed anew.
function pairOf(models) {
  const one = models.find(model => model.runs) || models[0], others = models.filter(model => model !== one);
  return [one, others.find(model => !sameFile(model, one)) || others[0]].map(model => model.model_id);
}
function gainOf(model) {
  if (model.judged?.map_after == null) return "–";
  const by = model.judged.map_after - model.judged.map_before;
  return h("span", {}, `${real(model.judged.map_after, 3)} `, h("span", { class: by > 0 ? "good" : "bad" }, signed(by, 3)));
}
// What would happen, before somebody asks for it.
function preview(models, running, model) {
  const told = models.find(one => one.model_id === running), by = model.judged?.map_after != null && told?.judged?.map_after != null ? `, whose AP50 was ${real(told.judged.map_after, 3)} by its gate against ${real(model.judged.map_after, 3)} of this one` : "";
  return `The edge downloads ${bytes(model.size)}, tries it on golden frames and swaps between two frames; it now runs ${running}${by}. Detection goes on meanwhile.`;
}
// Before and after of every gate: the student that a model replaced, and the model itself, on the same frames.
function judgedChart(width, models) {
  const high = 190, left = 40, box = { top: 12, bottom: high - 34 }, step = Math.min(120, (width - left - 10) / models.length);
  const y = value => box.bottom - value * (box.bottom - box.top), svg = s("svg", { viewBox: `0 0 ${width} ${high}`, width, height: high, role: "img", "aria-label": `AP50 before and after each gate: ${models.map(model => `${model.model_id} ${percent(model.judged.map_before)} to ${percent(model.judged.map_after)}`).join(", ")}` });
  for (const part of [0, 0.5, 1]) svg.append(s("line", { class: "axis", x1: left, x2: width - 8, y1: y(part), y2: y(part) }), s("text", { x: left - 6, y: y(part) + 4, "text-anchor": "end" }, part));
  models.forEach((model, at) => {
    const x = left + step * (at + 0.5), { map_before: before, map_after: after, gain_low: low } = model.judged;
    svg.append(s("line", { class: after >= before ? "rise" : "rise bad", x1: x, x2: x, y1: y(before), y2: y(after) }), s("circle", { class: "chosen", cx: x, cy: y(before), r: 3.5 }), s("circle", { class: "dot", cx: x, cy: y(after), r: 4.5 }, s("title", {}, `${model.model_id}: ${real(before, 3)} → ${real(after, 3)}`)));
    if (low != null) svg.append(s("line", { class: "mark", x1: x - 9, x2: x + 9, y1: y(before + low), y2: y(before + low) }, s("title", {}, `certainly over ${real(before + low, 3)}`)));
    if (step > 60 || at % 2 === 0) svg.append(s("text", { x, y: box.bottom + 16, "text-anchor": "middle", class: model.runs ? "strong" : null }, model.model_id.length > step / 7 ? model.model_id.slice(-Math.floor(step / 7)) : model.model_id));
  });
  svg.append(s("text", { x: width - 8, y: high - 2, "text-anchor": "end" }, "ring: the student before; dot: this model; dashes: the least gain that is certain"));
  return svg;
}
