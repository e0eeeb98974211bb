// Every address is relative: a proxy may serve the page below any path. The token is kept by path, for pages that share a host.
export const TOKEN = `culling token ${location.pathname}`;

export const state = { cameras: new Map(), sparks: {}, skew: 0, heardAt: 0, actions: false, me: { acts: false, on: [], role: "" }, view: {}, token: sessionStorage.getItem(TOKEN) || "" };
export const now = () => Date.now() / 1000 + state.skew;
