// What a page does by itself: stay fresh, copy ids, show which line is which trial.
// Everything here is a convenience; every page is whole without it.
"use strict";
document.documentElement.classList.add("js");

// What MLflow's clients print as the address of a run is one of MLflow's pages, which are elsewhere.
if (/^#\/(experiments|models|compare-runs|metric)\b/.test(location.hash)) {
  location.replace("/mlflow/" + location.hash);
}

const SETTLE_MS = 400;
let source = null, timer = null, busy = false, again = false;

// --- fresh: fetch this very page and swap the regions that differ ---------------------------
async function refresh() {
  if (busy) { again = true; return; }
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.ok && !answer.redirected) {
      swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    }
  } catch {
    // the server is away; the event source comes back when it does
  }
  busy = false;
  if (again) { again = false; soon(); }
}

function swap(fresh) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.querySelector(`[data-live="${CSS.escape(old.dataset.live)}"]`);
    if (!next || next.innerHTML === old.innerHTML) continue;
    if (old.contains(document.activeElement) && document.activeElement.matches("input")) continue;
    if (!getSelection().isCollapsed && old.contains(getSelection().anchorNode)) continue;
    for (const open of old.querySelectorAll("details[open][id]")) {
      next.querySelector(`#${CSS.escape(open.id)}`)?.setAttribute("open", "");
    }
    const scrolled = [...old.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    old.replaceChildren(...next.childNodes);
    old.querySelectorAll(".scroll").forEach((one, i) => { one.scrollLeft = scrolled[i] ?? 0; });
  }
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(refresh, SETTLE_MS);
}

// A hidden page listens to nothing: browsers allow six connections to one server.
function listen() {
  const live = document.querySelector("[data-live]");
  if (live && !document.hidden && !source) {
    source = new EventSource("/api/v1/events?follow=true");
    source.onmessage = soon;
  } else if (document.hidden && source) {
    source.close();
    source = null;
  }
}

document.addEventListener("visibilitychange", () => { listen(); if (!document.hidden) soon(); });
addEventListener("pagehide", () => source?.close());
const every = [...document.querySelectorAll("[data-every]")].map((one) => Number(one.dataset.every));
if (every.length) setInterval(() => { if (!document.hidden) refresh(); }, Math.min(...every) * 1000);
listen();

// --- a wide drawing opens at its middle, where the subject is ---------------------------------
for (const one of document.querySelectorAll(".graph")) {
  one.scrollLeft = (one.scrollWidth - one.clientWidth) / 2;
}

// --- copy -----------------------------------------------------------------------------------
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), 900);
});

// --- a trial's row and its lines light up together --------------------------------------------
document.addEventListener("pointerover", (event) => {
  const trial = event.target.closest?.("[data-trial]")?.dataset.trial;
  document.body.classList.toggle("lighting", trial !== undefined);
  for (const one of document.querySelectorAll("[data-trial]")) {
    one.classList.toggle("lit", one.dataset.trial === trial);
  }
});
