// What the page knows. `regions` is a list of { kind, polygon, name, classes, score }; `before` are those in force, as tables.
const KEPT = "culling-view-token";

export const state = {
  token: sessionStorage.getItem(KEPT) || "", cameras: [], camera: "", actions: false,
  head: null, picture: null, floor: 0.5, boxes: true, outlines: true,
  regions: [], before: null, dirty: false, busy: false,
};
export function keepToken(token) {
  state.token = token;
  sessionStorage.setItem(KEPT, token);
}
export const current = () => state.cameras.find(one => one.name === state.camera);
