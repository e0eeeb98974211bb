import { boxes } from "./boxes.js";
import { h, put } from "./dom.js";
import { poller } from "./link.js";
import { clock } from "./words.js";

// What a camera sees now, through the cloud: asked for once a second while it is looked at, which is what makes its edge send it

export function liveSight(name, view, under) {
  let at = 0;
  function draw(found, error) {
    if (error || found.why) { at = 0; view.replaceChildren(h("p", { class: "soft" }, `No live picture: ${error ? error.message : found.why}.`)); under.replaceChildren(); return; }
    if (found.jpeg) {
      at = found.at;
      view.replaceChildren(h("img", { src: `data:image/jpeg;base64,${found.jpeg}`, width: found.width, height: found.height, alt: `live picture of ${name}` }), boxes(found, { floor: 0.4, named: true, whole: 620 }));
    }
    put(under, `Live, at ${clock(found.at, true)} by the edge's clock; ${found.model_id === "none" ? "there is no model yet" : `boxes of the student ${found.model_id || ""}`}.`);
  }
  const poll = poller(() => `api/cameras/${encodeURIComponent(name)}/live?after=${at}`, draw, 1000);
  poll.turn();
  return { close: poll.close };
}
