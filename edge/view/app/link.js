import { state } from "./state.js";

// Requests, all with the token in a header; and one picture after the other, while the page is looked at

const ME = Math.random().toString(36).slice(2);
class Refused extends Error { constructor(status, line) { super(line); this.status = status; } }

export async function ask(path, body, signal) {
  const headers = { "X-Culling-Token": state.token, ...(body ? { "Content-Type": "application/json" } : {}) };
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), cache: "no-store", signal });
  if (!answer.ok) throw new Refused(answer.status, (await answer.json().catch(() => ({}))).error || `${answer.status} ${answer.statusText}`);
  return answer;
}

let waiting = null;
export const lookElsewhere = () => waiting?.abort();

// Asks for the next picture for ever. `take` gets what is told of the camera and the picture, null where there is no new one; `lose` gets an error.
export async function look(take, lose) {
  let last = 0, camera = "";
  for (;;) {
    if (document.hidden) await new Promise(done => document.addEventListener("visibilitychange", done, { once: true }));
    if (camera !== state.camera) { camera = state.camera; last = 0; }
    waiting = new AbortController();
    try {
      const answer = await ask(`api/cameras/${encodeURIComponent(camera)}/live?last=${last}&viewer=${ME}`, null, waiting.signal);
      const data = await answer.arrayBuffer(), size = new DataView(data).getUint32(0);
      const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
      const picture = head.number ? await createImageBitmap(new Blob([new Uint8Array(data, 4 + size)], { type: "image/jpeg" })) : null;
      if (camera !== state.camera) continue;
      last = head.number || last;
      take(head, picture);
    } catch (error) {
      if (error.name === "AbortError") continue;
      last = 0;
      if (lose(error)) return;
      await new Promise(done => setTimeout(done, 1000 + 1000 * Math.random()));
    }
  }
}
