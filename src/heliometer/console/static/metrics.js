"use strict";
// The explorer: the form is the view, the URL keeps it, and the chart follows.
(() => {
  const form = document.getElementById("explorer");
  const chips = document.getElementById("chips");
  const add = document.getElementById("add");
  const place = document.getElementById("chart");
  const start = form.elements.namedItem("start"), end = form.elements.namedItem("end");

  function view() {
    const query = new URLSearchParams();
    for (const [key, value] of new FormData(form)) if (value !== "") query.append(key, value);
    return query;
  }

  function addChip(text) {
    const [key, ...rest] = text.split(":");
    const value = rest.join(":");
    if (!key.trim() || !value) return false;
    for (const old of chips.querySelectorAll("input")) if (old.value.startsWith(`${key}:`)) old.closest(".chip").remove();
    const chip = document.createElement("span");
    chip.className = "chip";
    const label = document.createElement("span"), name = document.createElement("span");
    name.className = "dim";
    name.textContent = key;
    label.append(name, ` ${value}`);
    const field = Object.assign(document.createElement("input"), { type: "hidden", name: "d", value: `${key}:${value}` });
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
    button.dataset.removes = "";
    button.setAttribute("aria-label", `Remove ${key} ${value}`);
    chip.append(label, field, button);
    chips.append(chip);
    add.value = "";
    return true;
  }

  const chosenPairs = () => [...chips.querySelectorAll("input")].map((field) => ["d", field.value]);
  const namespace = () => form.elements.namedItem("ns").value.trim();

  heliometer.completes(form.elements.namedItem("ns"), (text) => ({ query: [["part", text]], from: 0, to: text.length }), () => { go(); return false; });
  heliometer.completes(add, (text) => {
    if (!namespace()) return null;
    const colon = text.indexOf(":");
    const common = [["ns", namespace()], ...chosenPairs()];
    if (colon < 0) return { query: [...common, ["part", text]], from: 0, to: text.length, end: ":" };
    return { query: [...common, ["key", text.slice(0, colon)], ["part", text.slice(colon + 1)]], from: colon + 1, to: text.length, value: true };
  }, (taken) => {
    if (!taken.value) return true;
    addChip(add.value);
    go();
    return false;
  });

  // A new search is another page, with its table; what only changes the chart stays here.
  function go() { form.requestSubmit(); }
  form.addEventListener("submit", () => {
    if (add.value.includes(":")) addChip(add.value);
    for (const field of [add, start, end]) if (field.value === "") field.disabled = true;
  });
  window.addEventListener("pageshow", () => { for (const field of [add, start, end]) field.disabled = false; });
  chips.addEventListener("click", (event) => {
    const button = event.target.closest("[data-removes]");
    if (button) { button.closest(".chip").remove(); go(); }
  });
  if (!place) return;

  document.getElementById("tools").hidden = false;
  document.getElementById("hint").hidden = false;
  const trouble = document.getElementById("trouble");
  const chart = new heliometer.Chart(place);
  let shown = null, timer = 0, asked = 0;

  async function draw() {
    const mine = ++asked;
    const query = view();
    history.replaceState(null, "", `/console/metrics?${query}`);
    document.getElementById("csv").href = `/console/metrics/table.csv?${query}`;
    place.classList.add("busy");
    try {
      const answer = await fetch(`/console/metrics/data?${query}`, { headers: { Accept: "application/json" } });
      if (answer.status === 401) { location.reload(); return; }
      if (!answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        throw new Error([...page.querySelectorAll("main p")].slice(0, 2).map((p) => p.textContent).join(" ") || answer.statusText);
      }
      const data = await answer.json();
      if (mine !== asked) return;
      shown = data;
      form.elements.namedItem("period").options[0].textContent = data.auto;
      trouble.hidden = true;
      chart.show(data, { zoomed, zoomedOut: zoomOut, moved });
      data.ways.forEach(([, text], index) => {
        const block = document.querySelectorAll(".elsewhere pre code")[index];
        if (block) block.textContent = text;
      });
    } catch (error) {
      trouble.textContent = error.message;
      trouble.hidden = false;
    } finally {
      place.classList.remove("busy");
    }
  }

  function zoomed(from, to) { start.value = from; end.value = to; setLive(false); draw(); }
  function moved(seconds) { if (seconds && shown) zoomed(shown.start + seconds, shown.end + seconds); else draw(); }
  function zoomOut() {
    if (!start.value) {
      const ranges = form.elements.namedItem("range");
      ranges.selectedIndex = Math.min(ranges.options.length - 1, ranges.selectedIndex + 1);
    }
    start.value = end.value = "";
    draw();
  }
  function setLive(on) {
    document.getElementById("live").checked = on;
    clearInterval(timer);
    if (on) { start.value = end.value = ""; timer = setInterval(draw, 5000); draw(); }
  }

  form.addEventListener("change", (event) => {
    if (event.target.name === "range") start.value = end.value = "";
    if (["range", "period", "stat"].includes(event.target.name)) draw();
  });
  document.getElementById("live").addEventListener("change", (event) => setLive(event.target.checked));
  document.getElementById("tools").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button || !shown) return;
    if (button.dataset.pan) moved(Number(button.dataset.pan) * Math.round((shown.end - shown.start) / 2));
    if ("zoomsOut" in button.dataset) zoomOut();
    if (button.id === "link") { navigator.clipboard?.writeText(location.href); button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy link"; }, 1500); }
    if (button.id === "png") savePicture();
  });

  function savePicture() {
    const drawn = chart.plot.ctx.canvas;
    const copy = Object.assign(document.createElement("canvas"), { width: drawn.width, height: drawn.height });
    const pen = copy.getContext("2d");
    pen.fillStyle = getComputedStyle(place.closest(".card")).backgroundColor;
    pen.fillRect(0, 0, copy.width, copy.height);
    pen.drawImage(drawn, 0, 0);
    copy.toBlob((blob) => {
      const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${namespace()}.png` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  draw();
})();
