// Changes one tree of elements into another in place, so that focus, scrolling, what was typed and what was opened stay.

const TYPED = new Set(["value", "checked", "selected", "open"]);

function sameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
}

function copyAttributes(from, to) {
  for (const { name, value } of to.attributes) {
    if (!TYPED.has(name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (!TYPED.has(name) && !to.hasAttribute(name)) from.removeAttribute(name);
  }
}

function morphNode(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  copyAttributes(from, to);
  // What is in a field belongs to the person, and an open list must not change under the pointer.
  if (from.nodeName === "TEXTAREA" || from.nodeName === "SELECT") return;
  morph(from, to);
}

// An element that is moved loses the focus and its scrolling in browsers without `moveBefore`.
function move(parent, child, before) {
  const focused = child.contains(document.activeElement) ? document.activeElement : null;
  if (parent.moveBefore) parent.moveBefore(child, before);
  else parent.insertBefore(child, before);
  if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

export function morph(from, to) {
  const byId = new Map();
  for (const child of from.children) if (child.id) byId.set(child.id, child);
  const wantedIds = new Set([...to.children].map((child) => child.id));
  let current = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const named = wanted.id ? byId.get(wanted.id) : null;
    if (named && sameKind(named, wanted)) {
      byId.delete(wanted.id);
      // What nobody wants any more makes room, so that what is wanted stays where it is.
      while (current && current !== named && !(current.id && wantedIds.has(current.id))) {
        const next = current.nextSibling;
        current.remove();
        current = next;
      }
      if (named !== current) move(from, named, current);
      else current = current.nextSibling;
      morphNode(named, wanted);
    } else if (current && sameKind(current, wanted)) {
      const next = current.nextSibling;
      morphNode(current, wanted);
      current = next;
    } else {
      from.insertBefore(wanted, current);
    }
  }
  while (current) {
    const next = current.nextSibling;
    current.remove();
    current = next;
  }
}
