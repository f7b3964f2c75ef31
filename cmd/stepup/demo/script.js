"use strict";
const $ = id => document.getElementById(id);
const away = "The demo does not answer. If it was ended, start it again; this page goes on by itself.";
let ahead = 0; // of the server's clock, in ms

// put replaces a part of the page. Who was on something in it stays there, or else comes to stand on the part itself.
function put(part, html) {
  const box = $(part), held = box.contains(document.activeElement) ? document.activeElement.id : null;
  const open = [...box.querySelectorAll("details[open]")].map(d => d.id);
  box.innerHTML = html;
  for (const id of open) if ($(id)) $(id).open = true;
  if (held !== null) ($(held) || box).focus({preventScroll: true});
}

function tick() {
  for (const e of document.querySelectorAll("[data-until]")) {
    const left = Math.max(0, Math.floor((e.dataset.until - Date.now() + ahead) / 1000));
    if (e.localName === "progress") e.value = left;
    else e.textContent = Math.floor(left / 60) + ":" + String(left % 60).padStart(2, "0");
  }
}

function lost(text) {
  $("lost").textContent = text;
  $("lost").hidden = !text;
}

const events = new EventSource("/events");
events.onopen = () => lost("");
events.onerror = () => lost(away);
events.onmessage = e => {
  const {now, parts} = JSON.parse(e.data);
  ahead = Date.now() - now;
  for (const part in parts) put(part, parts[part]);
  tick();
  const said = [...document.querySelectorAll("[data-say]")].map(s => s.textContent).join(" ");
  if ($("said").textContent !== said) $("said").textContent = said;
};
setInterval(tick, 500);

document.addEventListener("submit", async e => {
  e.preventDefault();
  try {
    const res = await fetch(e.submitter.getAttribute("formaction") || e.target.action, {method: "POST", headers: {Accept: "application/json"}});
    lost(res.ok ? "" : "That did not work: " + await res.text());
  } catch {
    lost(away);
  }
});
