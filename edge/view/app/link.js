import { state } from "./state.js";

// Requests, all with the token in a header; and one picture after the other, while the page is looked at

const ME = Math.random().toString(36).slice(2);
const MOST_MS = 15000;  // the agent itself lets nobody wait for so long
class Refused extends Error { constructor(status, line, written) { super(line); Object.assign(this, { status, written: Boolean(written) }); } }

export async function ask(path, body, signal) {
  const headers = { "X-Culling-Token": state.token, ...(body ? { "Content-Type": "application/json" } : {}) };
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), cache: "no-store", signal });
  if (!answer.ok) {
    const { error, written } = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, error || `${answer.status} ${answer.statusText}`, written);
  }
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
    const mine = waiting = new AbortController(), late = setTimeout(() => mine.abort(new DOMException("no answer", "TimeoutError")), MOST_MS);
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
    } finally { clearTimeout(late); }
  }
}
