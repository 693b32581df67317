// Keeps the live part of a page up to date: the server draws it, this puts it in place of the old one.

import { morph } from "./morph.js";

const SLOW_MS = 5000;
const area = document.getElementById("live");
const sign = document.getElementById("connection");
const spoken = document.getElementById("spoken");
let source = null;
let lostSince = 0;

function say(text, mood, aloud) {
  sign.textContent = text;
  sign.className = `connection dot ${mood}`;
  if (aloud) spoken.textContent = text;
}

function take(event) {
  if (lostSince) say("Live", "good", true);
  else say("Live", "good", false);
  lostSince = 0;
  const fresh = document.createElement("div");
  fresh.innerHTML = event.data;
  const wasInTrouble = area.querySelector("[data-trouble]");
  if (wasInTrouble && !fresh.querySelector("[data-trouble]")) {
    // The forms below the live part were not drawn, for nothing was known to draw them from.
    location.reload();
    return;
  }
  morph(area, fresh);
}

function open() {
  if (source) return;
  source = new EventSource(area.dataset.live);
  source.addEventListener("live", take);
  source.addEventListener("error", () => {
    const now = Date.now();
    const isNews = !lostSince;
    lostSince = lostSince || now;
    say("Connection lost, trying again", "bad", isNews);
    // The browser gives up by itself after some answers, such as a proxy's 502.
    if (source && source.readyState === EventSource.CLOSED) {
      close();
      setTimeout(() => { if (!document.hidden) open(); }, SLOW_MS);
    }
  });
}

function close() {
  if (source) source.close();
  source = null;
}

if (area && area.dataset.live && sign) {
  // A browser keeps few connections to one host: pages that nobody looks at hold none.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", () => { if (!document.hidden) open(); });
  if (!document.hidden) open();
}
