import { h } from "./dom.js";

// Shows of many items only those near the window, in as many columns as fit. `make(key)` gives { node, update }.

const GAP = 12, HEAD = 44, BEYOND = 400;

export function virtual(make) {
  const node = h("div", { class: "virtual", role: "list" }), shown = new Map();
  let places = [], asked = false, columns = 1;
  // Items are keys, or { head } for a line of its own. `wide` is the least width of one, `high` the height of all.
  function lay(items, wide, high) {
    const room = node.clientWidth;
    columns = Math.max(1, Math.floor((room + GAP) / (wide + GAP)));
    const each = (room - GAP * (columns - 1)) / columns;
    let y = 0, column = 0;
    places = [];
    for (const item of items) {
      const head = typeof item !== "string";
      if (head && column) { y += high; column = 0; }
      places.push(head ? { key: `\n${item.head}`, text: item.head, x: 0, y, w: room, h: HEAD } : { key: item, x: column * (each + GAP), y, w: each, h: high - GAP });
      if (head) y += HEAD;
      else if (++column === columns) { y += high; column = 0; }
    }
    node.style.height = `${y + (column ? high : 0)}px`;
    draw();
  }
  function draw() {
    asked = false;
    const from = -node.getBoundingClientRect().top - BEYOND, to = from + innerHeight + 2 * BEYOND;
    const near = places.filter(place => place.y + place.h > from && place.y < to), wanted = new Set(near.map(place => place.key));
    for (const [key, one] of shown) if (!wanted.has(key) && !one.node.contains(document.activeElement)) { one.node.remove(); shown.delete(key); }
    near.forEach((place, at) => {
      let one = shown.get(place.key);
      if (!one) {
        one = place.text == null ? make(place.key) : { node: h("h2", { class: "group" }, place.text), update: () => {} };
        shown.set(place.key, one);
        one.update();
      }
      one.node.style.transform = `translate(${place.x}px, ${place.y}px)`;
      one.node.style.width = `${place.w}px`;
      one.node.style.height = `${place.h}px`;
      if (node.children[at] !== one.node && !one.node.contains(document.activeElement)) node.insertBefore(one.node, node.children[at] || null);
    });
  }
  const later = () => { if (!asked) { asked = true; requestAnimationFrame(draw); } };
  addEventListener("scroll", later, { passive: true });
  return { node, lay, columns: () => columns, each: done => { for (const [key, one] of shown) done(one, key); }, close: () => removeEventListener("scroll", later) };
}
