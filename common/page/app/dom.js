// Everything is made with textContent and attributes, never from markup, so that a name is always shown as text.
export const $ = id => document.getElementById(id);

export function h(tag, props, ...kids) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...kids.flat().filter(kid => kid != null && kid !== false));
  return node;
}
export function s(tag, props, ...kids) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(props || {})) if (value != null) node.setAttribute(key, value);
  node.append(...kids.flat().filter(kid => kid != null));
  return node;
}
// Writes a text only where it changed, so that nothing is read out or laid out again for nothing.
export const put = (where, text) => { if (where.textContent !== text) where.textContent = text; };
// One of several that exclude each other: buttons that say which is pressed.
export function choice(label, options, chosen, done) {
  const node = h("span", { class: "choice", role: "group", "aria-label": label });
  const draw = now => node.replaceChildren(...Object.entries(options).map(([key, text]) =>
    h("button", { "aria-pressed": String(key === now), onclick: () => { draw(key); done(key); } }, text)));
  draw(chosen);
  return node;
}
