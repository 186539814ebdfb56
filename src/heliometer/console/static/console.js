"use strict";
// What every page has: local times, copy buttons, confirmations. Nothing depends on it.
(() => {
  document.documentElement.classList.add("scripted");

  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  const words = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

  function relative(date) {
    const seconds = (date - Date.now()) / 1000;
    const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? units.at(-1);
    return Math.abs(seconds) > 7 * 86400 ? full.format(date) : words.format(Math.trunc(seconds / size), unit);
  }

  function refreshTimes(root) {
    for (const element of root.querySelectorAll("time[datetime]")) {
      const date = new Date(element.dateTime);
      element.textContent = relative(date);
      element.title = full.format(date);
    }
  }

  function prepare(root) {
    refreshTimes(root);
    for (const button of root.querySelectorAll("[data-copies]")) button.hidden = !navigator.clipboard;
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copies]");
    if (button) {
      const source = button.dataset.copies ? document.getElementById(button.dataset.copies) : button.parentElement.querySelector("pre");
      await navigator.clipboard.writeText(source.textContent);
      const label = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = label; }, 1500);
    }
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
  });
  document.addEventListener("submit", (event) => {
    const text = event.submitter?.dataset.confirms ?? event.target.dataset.confirms;
    if (text && !window.confirm(text)) event.preventDefault();
  });
  // A part that is refreshed must not take away what somebody is reading or typing there.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const target = event.detail.target;
    if (target.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")) event.detail.shouldSwap = false;
  });
  document.addEventListener("htmx:afterSwap", (event) => prepare(document.getElementById(event.detail.target.id) ?? event.detail.elt));
  document.addEventListener("DOMContentLoaded", () => prepare(document));
  if (document.readyState !== "loading") prepare(document);
  setInterval(() => refreshTimes(document), 10000);
})();
// A page that shows something once answers a form: loading it again must not send that again.
document.addEventListener("DOMContentLoaded", () => {
  const shown = document.querySelector("[data-here]");
  if (shown) history.replaceState(null, "", shown.dataset.here);
});
