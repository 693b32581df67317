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

export function morph(from, to) {
  const byId = new Map();
  for (const child of from.children) if (child.id) byId.set(child.id, child);
  let current = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const named = wanted.id ? byId.get(wanted.id) : null;
    if (named && sameKind(named, wanted)) {
      if (named !== current) from.insertBefore(named, current);
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
