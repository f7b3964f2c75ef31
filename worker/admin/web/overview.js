"use strict";
// The overview without reloading: the server sends the sections that changed. A section that somebody is using waits.

const live = document.getElementById("live");
const said = document.getElementById("said");
const waiting = new Map();
const silence = 15_000; // ms; the server says something every two seconds
let source, heard = 0, moved = -Infinity;

function say(word, text) {
  live.className = word;
  live.textContent = text;
}

function busy(section) {
  if (section.querySelector("button:disabled, :focus-visible")) return true;
  if (performance.now() - moved < 3000 && section.querySelector("button:hover")) return true; // not for a pointer that rests, nor after a tap
  const chosen = document.getSelection();
  return !chosen.isCollapsed && section.contains(chosen.anchorNode);
}

function show(name, html) {
  const section = document.getElementById(name);
  if (busy(section)) {
    waiting.set(name, html);
    return;
  }
  waiting.delete(name);
  section.innerHTML = html;
}

addEventListener("pointermove", () => (moved = performance.now()));

setInterval(() => {
  waiting.forEach((html, name) => show(name, html));
  if (!source || performance.now() - heard < silence) return;
  say("off", "Not live, reconnecting"); // a connection that broke without a word
  close();
  open();
}, 500);

function open() {
  if (source || document.hidden) return;
  heard = performance.now();
  source = new EventSource("/events");
  source.addEventListener("sections", (event) => {
    heard = performance.now();
    say("on", "Live");
    for (const [name, html] of Object.entries(JSON.parse(event.data))) show(name, html);
  });
  source.onerror = () => {
    say("off", "Not live, reconnecting");
    if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
    close();
    setTimeout(open, 5000);
  };
}

function close() {
  source?.close();
  source = undefined;
}

document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
addEventListener("pagehide", close);
addEventListener("pageshow", open);

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.action !== location.origin + "/redeliver") return;
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  said.textContent = "";
  try {
    const answer = await fetch(form.action, { method: "POST", headers: { Accept: "application/json" }, body: new URLSearchParams(new FormData(form)) });
    const { done, error } = await answer.json();
    said.className = error ? "bad" : "good";
    said.textContent = done ?? error;
  } catch {
    said.className = "bad";
    said.textContent = "The request did not get through. Try again.";
  }
  button.disabled = false;
  button.blur();
});
