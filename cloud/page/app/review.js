import { auth, may } from "./actions.js";
import { boxes, image, key, places } from "./boxes.js";
import { h, put, s } from "./dom.js";
import { get, reach } from "./link.js";
import { state } from "./state.js";
import { count, stamp } from "./words.js";

// The frames on which teacher and student dispute most, one after another: whoever decides needs no mouse, and may use one

const LEAST = 4, KEYS = { t: "teacher", s: "student", x: "skip" };
const HELP = [["T", "the teacher is right"], ["S", "the student is right"], ["E", "correct the boxes"], ["X", "skip"], ["B", "back to the last one"]];
const EDIT_HELP = [["N", "next box"], ["arrows", "move it, with Shift resize it"], ["A", "add a box"], ["D", "delete it"], ["C", "its class"], ["S", "take the student's next box"], ["I", "ignore its class here"], ["O", "count that place again"], ["U", "undo"], ["Enter", "save"], ["Esc", "leave it"]];

export function reviewPane(name) {
  const stage = h("div", { class: "pic" }), why = h("p", { class: "why" }), left = h("p", { class: "soft small", role: "status" }), worth = h("p", { class: "soft small worth" }), answer = h("p", { class: "answer small", role: "status" }), settings = h("div", { class: "small", hidden: true }), bar = h("div", { class: "bar" }), help = h("p", { class: "small soft keys" });
  const classes = h("datalist", { id: "classes" }), field = h("input", { list: "classes", "aria-label": "class of the box", hidden: true, onchange: () => { if (edit?.boxes[edit.at]) { change(() => { edit.boxes[edit.at][4] = field.value.trim(); }); stage.focus(); } } });
  const node = h("div", { class: "review" }, left, worth, h("div", { class: "bar" }, key()), stage, why, bar, field, classes, answer, settings, help);
  const path = `api/cameras/${encodeURIComponent(name)}/review`;
  let list = [], at = 0, open = 0, edit = null, dragged = null, busy = false, scale = () => 1;
  const frame = () => list[at];
  stage.tabIndex = 0;
  stage.setAttribute("aria-label", "the frame in dispute; keys decide");

  async function load() {
    try {
      const found = await get(path);
      list = found.frames; open = found.left; put(worth, found.effect?.told ?? ""); at = 0; edit = null;
      draw();
    } catch (error) { answer.className = "answer small bad"; put(answer, error.message); }
  }
  function draw() {
    const one = frame();
    put(left, one ? `${count(open, "frame")} in dispute, the most disputed first` : open ? "" : "Teacher and student dispute no frame of this camera that nobody has looked at.");
    node.querySelector(".bar").hidden = !one;
    if (!one) { stage.replaceChildren(); for (const part of [why, bar, help]) part.replaceChildren(); return; }
    put(why, `${one.why} · ${stamp(one.captured)}, ${one.reason}${one.held_out ? ", kept apart to judge by" : ""}`);
    const layer = edit ? editLayer(one) : boxes(one, { named: true, whole: 760 });
    stage.style.maxWidth = `${54 * one.width / one.height}vh`;  // all of it fits, with the buttons below
    stage.replaceChildren(image(one, false), layer);
    stage.classList.toggle("editing", Boolean(edit));
    field.hidden = !edit || edit.at < 0;
    field.value = edit?.boxes[edit.at]?.[4] ?? "";
    const known = new Set([...list.flatMap(each => [...(each.teacher || []), ...each.student].map(box => box[5])), ...Object.keys(state.cameras.get(name)?.accuracy?.per_class || {})]);
    classes.replaceChildren(...[...known].sort().map(value => h("option", { value })));
    buttons();
  }
  function buttons() {
    const button = (text, done, shortcut) => h("button", { onclick: () => { done(); stage.focus(); }, "aria-keyshortcuts": shortcut }, text);
    put(help, (edit ? EDIT_HELP : may(name) ? HELP : []).map(([one, text]) => `${one} ${text}`).join(" · "));
    if (!may(name)) { bar.replaceChildren(h("span", { class: "soft" }, state.actions ? "Unlock the page to decide here." : "This page only shows; page.actions lets it decide. culling cloud review does the same in a terminal.")); return; }
    bar.replaceChildren(...(edit
      ? [button("save these boxes", save, "Enter"), button("add a box", add, "a"), frame().student.length ? button("take the student's next box", adopt, "s") : "", button("delete the box", remove, "d"), edit.at >= 0 ? button("ignore here", () => place("ignore"), "i") : "", byUs() ? button("count the ignored place again", () => place("unignore"), "o") : "", button("undo", undo, "u"), button("cancel", cancel, "Escape")]
      : [button("teacher is right", () => decide("teacher"), "t"), button("student is right", () => decide("student"), "s"), button("correct the boxes", correct, "e"), button("skip", () => decide("skip"), "x"), button("back", back, "b")]));
  }
  async function ask(one, decision, mine) {
    const body = { decisions: [{ id: one.id, decision, seen: one.decided ?? null, ...(mine ? { boxes: mine } : {}), ...(decision === "student" ? { model: one.model } : {}) }] };
    const asked = await reach(path, { method: "POST", headers: { "Content-Type": "application/json", ...auth() }, body: JSON.stringify(body) }), told = await asked.json();
    if (!asked.ok) throw Object.assign(new Error(told.detail || told.error), { stale: asked.status === 409 });
    one.decided = told.at[one.id];
    open = told.left;
    put(worth, told.effect?.told ?? "");
    return told;
  }
  async function decide(decision, mine) {
    const one = frame();
    if (!one || busy || !may(name)) return;
    busy = true;
    settings.hidden = true;
    try {
      await ask(one, decision, mine);
      answer.className = "answer small good";
      put(answer, `${decision === "skip" ? "skipped" : "labelled"}: ${decision === "corrected" ? count(mine.length, "box", "boxes") + " of yours" : decision === "skip" ? "nothing is said of it" : `the ${decision}'s boxes`}`);
      edit = null; at += 1; busy = false;
      if (at < list.length) draw(); else await load();
    } catch (error) {
      busy = false; answer.className = "answer small bad"; put(answer, error.message);
      if (error.stale) await load();
    }
  }
  // A place of this frame counts no more, or again; the frame stays, since more of it may be in dispute.
  const byUs = () => frame()?.ignored?.some(one => one.who);
  async function place(decision) {
    const one = frame(), box = edit?.boxes[edit.at], ignored = decision === "ignore";
    if (!one || busy || !may(name) || (ignored ? !box : !byUs())) return;
    busy = true;
    try {
      const told = await ask(one, decision, ignored ? [[...box.slice(0, 4), box[4]]] : null), row = told.frames?.[0];
      if (row) list[at] = { ...row, decided: one.decided };
      if (ignored) change(() => { edit.boxes.splice(edit.at, 1); edit.at = Math.min(edit.at, edit.boxes.length - 1); });
      answer.className = "answer small good";
      put(answer, ignored ? `ignored in this frame: a ${box[4]} that stands there is neither learnt nor judged` : "that place counts again");
      settings.hidden = !row?.toml;
      settings.replaceChildren(...(row?.toml ? [h("span", {}, "For later frames, put this into the settings of the camera's edge; culling edge reload takes it:"), h("pre", {}, row.toml)] : []));
    } catch (error) { answer.className = "answer small bad"; put(answer, error.message); }
    busy = false;
    draw();
    if (!settings.hidden) settings.scrollIntoView({ block: "nearest" });
  }
  function back() { if (at > 0) { at -= 1; edit = null; put(answer, "decide again: the new word takes the place of the last one"); draw(); } }

  // Correcting: boxes are [x1, y1, x2, y2, class]; every change can be taken back

  function correct() {
    const one = frame();
    if (!one || !may(name)) return;
    edit = { boxes: (one.teacher || []).map(box => [...box.slice(0, 4), box[5]]), at: one.teacher?.length ? 0 : -1, past: [] };
    draw();
  }
  function change(done) { edit.past.push(JSON.stringify([edit.boxes, edit.at])); done(); draw(); }
  function undo() { const before = edit?.past.pop(); if (before) { [edit.boxes, edit.at] = JSON.parse(before); draw(); } }
  function cancel() { edit = null; draw(); }
  function remove() { if (edit?.at >= 0) change(() => { edit.boxes.splice(edit.at, 1); edit.at = Math.min(edit.at, edit.boxes.length - 1); }); }
  // The student's boxes that stand faintly below, one after another.
  function adopt() {
    const next = frame().student.find(([x1, y1, x2, y2, , name]) => !edit.boxes.some(box => box[4] === name && [x1, y1, x2, y2].every((edge, side) => Math.abs(edge - box[side]) < LEAST)));
    if (next) change(() => { edit.boxes.push([...next.slice(0, 4), next[5]]); edit.at = edit.boxes.length - 1; });
  }
  const label = () => edit.boxes[edit.at]?.[4] || classes.children[0]?.value || "";
  function add() { const { width, height } = frame(); change(() => { edit.boxes.push([0.4 * width, 0.4 * height, 0.6 * width, 0.6 * height, label()]); edit.at = edit.boxes.length - 1; }); }
  function save() {
    const good = edit.boxes.filter(([x1, y1, x2, y2]) => x2 - x1 >= LEAST && y2 - y1 >= LEAST);
    decide("corrected", good.map(([x1, y1, x2, y2, name]) => [...[x1, y1, x2, y2].map(value => Math.round(10 * value) / 10), name]));
  }
  function clamp(box) {
    const { width, height } = frame();
    const [x1, x2] = [box[0], box[2]].sort((a, b) => a - b), [y1, y2] = [box[1], box[3]].sort((a, b) => a - b);
    return [Math.max(0, x1), Math.max(0, y1), Math.min(width, x2), Math.min(height, y2), box[4]];
  }
  function nudge(dx, dy, resize) {
    if (edit.at < 0) return;
    change(() => { const box = edit.boxes[edit.at]; edit.boxes[edit.at] = clamp(resize ? [box[0], box[1], box[2] + dx, box[3] + dy, box[4]] : [box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy, box[4]]); });
  }
  function editLayer(one) {
    const unit = one.width / 760, svg = s("svg", { class: "over", viewBox: `0 0 ${one.width} ${one.height}` });
    const faint = s("g", { class: "faint" }, (one.student || []).map(([x1, y1, x2, y2]) => s("rect", { class: "s", x: x1, y: y1, width: x2 - x1, height: y2 - y1 })));
    svg.append(...places(one, unit, true), faint);
    edit.boxes.forEach(([x1, y1, x2, y2, name], place) => {
      const here = place === edit.at, text = s("text", { class: "p", x: x1 + 2 * unit, y: Math.max(15 * unit, y1 - 5 * unit), "stroke-width": 3 * unit }, name);
      text.style.fontSize = `${15 * unit}px`;
      svg.append(s("rect", { class: "rim", x: x1, y: y1, width: x2 - x1, height: y2 - y1 }), s("rect", { class: here ? "p here" : "p", "data-place": place, x: x1, y: y1, width: x2 - x1, height: y2 - y1 }), text);
      if (here) for (const [x, y, corner] of [[x1, y1, "nw"], [x2, y1, "ne"], [x1, y2, "sw"], [x2, y2, "se"]]) svg.append(s("circle", { class: "grip", cx: x, cy: y, r: 6 * unit, "data-place": place, "data-corner": corner }));
    });
    scale = event => { const box = svg.getBoundingClientRect(); return [(event.clientX - box.left) / box.width * one.width, (event.clientY - box.top) / box.height * one.height]; };
    return svg;
  }
  stage.addEventListener("pointerdown", event => {
    if (!edit) return;
    const [x, y] = scale(event), place = event.target.dataset?.place;
    edit.past.push(JSON.stringify([edit.boxes, edit.at]));
    if (place == null) { edit.boxes.push([x, y, x, y, label()]); edit.at = edit.boxes.length - 1; dragged = { corner: "se", x, y }; } else { edit.at = Number(place); dragged = { corner: event.target.dataset.corner || "", x, y }; }
    stage.setPointerCapture(event.pointerId);
    event.preventDefault();
    draw();
    stage.focus();
  });
  stage.addEventListener("pointermove", event => {
    if (!dragged || !edit) return;
    const [x, y] = scale(event), box = edit.boxes[edit.at], { corner } = dragged, dx = x - dragged.x, dy = y - dragged.y;
    if (!corner) { box[0] += dx; box[2] += dx; box[1] += dy; box[3] += dy; } else { box[corner.includes("w") ? 0 : 2] = x; box[corner.includes("n") ? 1 : 3] = y; }
    dragged = { corner, x, y };
    stage.replaceChild(editLayer(frame()), stage.lastChild);
  });
  stage.addEventListener("pointerup", () => {
    if (!dragged || !edit) return;
    dragged = null;
    edit.boxes[edit.at] = clamp(edit.boxes[edit.at]);
    const [x1, y1, x2, y2] = edit.boxes[edit.at];
    if (x2 - x1 < LEAST || y2 - y1 < LEAST) undo(); else draw();
  });

  function typed(event) {
    if (/INPUT|SELECT|TEXTAREA/.test(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key], pressed = event.key.toLowerCase();
    const unit = frame() ? Math.max(1, Math.round(frame().width / 320)) : 1;
    const done = edit
      ? step ? () => nudge(step[0] * unit, step[1] * unit, event.shiftKey) : { n: () => { edit.at = edit.boxes.length ? (edit.at + 1) % edit.boxes.length : -1; draw(); }, a: add, d: remove, delete: remove, u: undo, s: adopt, i: () => place("ignore"), o: () => place("unignore"), c: () => { field.focus(); field.select(); }, enter: event.target.tagName === "BUTTON" ? null : save, escape: cancel }[pressed]
      : { e: correct, b: back }[pressed] || (KEYS[pressed] && (() => decide(KEYS[pressed])));
    if (!done) return;
    event.preventDefault();
    done();
  }
  addEventListener("keydown", typed);
  return { node, drawn: load, close: () => removeEventListener("keydown", typed) };
}
