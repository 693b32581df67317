// Adds the events of an object as they come, from where the list that the server drew ends.

const TYPES = ["OBJECT_CREATED", "TASKS_CREATED", "TASK_STARTED", "TASK_FINISHED", "TASK_FAILED", "TASK_RETRIED",
  "TASK_DEAD", "TASK_CANCELLED"];
const MAX_CHARS = 300;
const MAX_ROWS = 2000;
const section = document.getElementById("events");

function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 10000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`;
}

function detailsOf(event) {
  const told = [event.worker, event.error].filter(Boolean);
  if (event.type === "TASKS_CREATED") {
    const last = event.first + event.count - 1;
    const one = event.role ?? `task ${event.first}`;
    told.push(event.count === 1 ? one : `tasks ${event.first} to ${last}`);
  }
  const worked = event.type === "TASK_FINISHED" || event.type === "TASK_FAILED";
  if (event.type === "TASK_STARTED" && event.wait_ms !== undefined) told.push(`waited ${duration(event.wait_ms)}`);
  if (worked && event.spent_ms !== undefined) told.push(`worked ${duration(event.spent_ms)}`);
  return told.join(", ").slice(0, MAX_CHARS);
}

function cell(text, look) {
  const made = document.createElement("td");
  made.textContent = text ?? "";
  made.className = look;
  return made;
}

function add(message) {
  const event = JSON.parse(message.data);
  const rows = document.getElementById("event-rows");
  const row = document.createElement("tr");
  const at = new Date(event.at_ms).toISOString();
  row.append(cell(at.slice(11, 23), "mono nowrap"), cell(event.type, "mono"), cell(event.role ?? event.sequence, "figure"),
    cell(event.attempt, "figure"), cell(detailsOf(event), "break"));
  row.firstChild.title = at;
  if (rows.children.length < MAX_ROWS) rows.append(row);
}

function follow() {
  const after = section.dataset.after;
  const path = section.dataset.events + (after ? `?after=${encodeURIComponent(after)}` : "");
  const source = new EventSource(path);
  for (const type of TYPES) {
    source.addEventListener(type, (message) => {
      section.dataset.after = message.lastEventId;
      add(message);
    });
  }
  source.addEventListener("end", () => source.close());
  return source;
}

if (section && section.dataset.open === "yes") {
  let source = null;
  const open = () => { source ??= follow(); };
  const close = () => { source?.close(); source = null; };
  // As for the live part: a page that nobody looks at holds no connection.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  if (!document.hidden) open();
}
