"use strict";
// The editor of alarms: the expression is checked as it is typed, completed, and tried on history.
(() => {
  const field = document.getElementById("f-expression");
  const checked = document.getElementById("checked"), matches = document.getElementById("matches");
  const attempt = document.getElementById("try"), verdict = document.getElementById("verdict");
  const since = document.getElementById("since");
  const chart = new heliometer.Chart(document.getElementById("chart"));
  let timer = 0, asked = 0;

  const get = async (path, query) => {
    const answer = await fetch(`/console/alarms/${path}?${new URLSearchParams(query)}`, { headers: { Accept: "application/json" } });
    if (answer.status === 401) { location.reload(); return null; }
    return answer.ok ? answer.json() : null;
  };

  // What stands before the caret: a metric's name, a key or a value within its brackets.
  heliometer.completes(field, (text, caret) => {
    const before = text.slice(0, caret);
    const inside = before.match(/([A-Za-z0-9._-]+)\{([^{}]*)$/);
    if (inside) {
      const pairs = inside[2].split(",");
      const last = pairs.pop();
      const query = [["ns", inside[1]], ...pairs.filter((p) => p.includes("=")).map((p) => ["d", p.trim().replace("=", ":")])];
      const equals = last.indexOf("=");
      if (equals < 0) return { query: [...query, ["part", last.trim()]], from: caret - last.trimStart().length, to: caret, end: "=" };
      const value = last.slice(equals + 1);
      return { query: [...query, ["key", last.slice(0, equals).trim()], ["part", value]], from: caret - value.length, to: caret };
    }
    const word = before.match(/(?:^|[\s(&|])([A-Za-z][A-Za-z0-9._-]*)$/);
    if (!word || /^(avg|min|max|sum|count|and|or|times)$/i.test(word[1])) return null;
    return { query: [["part", word[1]]], from: caret - word[1].length, to: caret, end: "{" };
  });

  async function check() {
    const mine = ++asked;
    const expression = field.value.trim();
    if (!expression) { attempt.hidden = checked.hidden = matches.hidden = true; return; }
    const found = await get("check", [["expression", expression]]);
    if (mine !== asked || !found) return;
    checked.hidden = !found.error;
    checked.textContent = found.error ?? "";
    field.setAttribute("aria-invalid", String(Boolean(found.error)));
    matches.hidden = Boolean(found.error);
    if (found.error) { attempt.classList.add("busy"); return; }
    matches.textContent = found.parts.map((part) => `${part.metric} matches ${part.series > 1000 ? "more than 1000" : part.series} series`).join("; ");
    matches.className = found.parts.some((part) => !part.series) ? "warn" : "dim";
    const tried = await get("try", [["expression", expression], ["since", since.value]]);
    if (mine !== asked || !tried) return;
    attempt.classList.remove("busy");
    attempt.hidden = false;
    if (tried.error) { verdict.textContent = tried.error; verdict.className = "warn"; return; }
    const share = (100 * tried.seconds) / (tried.end - tried.start);
    verdict.className = tried.alarms ? "warn" : "said";
    verdict.textContent = tried.alarms
      ? `${tried.alarms} alarm${tried.alarms === 1 ? "" : "s"}, ${share < 1 ? share.toFixed(2) : Math.round(share)} % of the time in alarm.`
      : "No alarm in this time.";
    chart.show(tried, { thresholds: tried.thresholds, spans: tried.spans, height: 260 });
  }

  const soon = () => { clearTimeout(timer); timer = setTimeout(check, 300); };
  field.addEventListener("input", soon);
  since.addEventListener("change", check);
  if (field.value.trim() && !checked.textContent.trim()) check();
})();
