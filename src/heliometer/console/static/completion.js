"use strict";
// Proposals below a field, chosen with the arrow keys, Enter or the mouse (ARIA's combobox).
window.heliometer = window.heliometer ?? {};
(() => {
  let count = 0;

  // ``context(text, caret)`` says what is asked for: {query, from, to, end}; null: nothing.
  heliometer.completes = function completes(input, context, chosen) {
    const list = document.createElement("ul");
    list.className = "suggestions";
    list.id = `suggestions-${++count}`;
    list.role = "listbox";
    list.hidden = true;
    input.after(list);
    input.setAttribute("role", input.matches("textarea") ? "textbox" : "combobox");
    input.setAttribute("aria-controls", list.id);
    if (!input.matches("textarea")) input.setAttribute("aria-expanded", "false");
    input.setAttribute("aria-autocomplete", "list");
    let place = null, selected = -1, asked = 0, timer = 0;

    function close() {
      list.hidden = true;
      selected = -1;
      if (!input.matches("textarea")) input.setAttribute("aria-expanded", "false");
      input.removeAttribute("aria-activedescendant");
    }

    function mark(index) {
      selected = index;
      [...list.children].forEach((item, at) => item.setAttribute("aria-selected", String(at === index)));
      const item = list.children[index];
      if (item) { input.setAttribute("aria-activedescendant", item.id); item.scrollIntoView({ block: "nearest" }); }
    }

    function take(index) {
      const text = list.children[index].dataset.value;
      const end = place.end ?? "";
      input.setRangeText(text + end, place.from, place.to, "end");
      const taken = { ...place, text };
      close();
      if (chosen?.(taken) !== false) input.dispatchEvent(new Event("input", { bubbles: true }));
    }

    async function ask() {
      const mine = ++asked;
      place = document.activeElement === input ? context(input.value, input.selectionStart) : null;
      if (!place) return close();
      const answer = await fetch(`/console/metrics/complete?${new URLSearchParams(place.query)}`, { headers: { Accept: "application/json" } });
      if (!answer.ok || mine !== asked) return undefined;
      const found = await answer.json();
      if (mine !== asked) return undefined;
      list.replaceChildren(...found.slice(0, 12).map(([name, series], index) => {
        const item = document.createElement("li");
        item.role = "option";
        item.id = `${list.id}-${index}`;
        item.dataset.value = name;
        const label = document.createElement("span");
        label.textContent = name;
        const size = document.createElement("span");
        size.className = "dim";
        size.textContent = series;
        item.append(label, size);
        item.addEventListener("mousedown", (event) => { event.preventDefault(); take(index); });
        return item;
      }));
      list.hidden = !found.length;
      if (!input.matches("textarea")) input.setAttribute("aria-expanded", String(!list.hidden));
      selected = -1;
      return undefined;
    }

    const soon = () => { clearTimeout(timer); timer = setTimeout(ask, 120); };
    input.addEventListener("input", soon);
    input.addEventListener("focus", soon);
    input.addEventListener("click", soon);
    input.addEventListener("blur", () => setTimeout(close, 100));
    input.addEventListener("keydown", (event) => {
      if (list.hidden) return;
      const size = list.children.length;
      if (event.key === "ArrowDown") mark((selected + 1) % size);
      else if (event.key === "ArrowUp") mark((selected + size - 1) % size);
      else if ((event.key === "Enter" || event.key === "Tab") && selected >= 0) take(selected);
      else if (event.key === "Escape") close();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  };
})();
