"use strict";
// Charts: lines over time, thresholds and shaded spans, zoom and move by dragging.
window.heliometer = window.heliometer ?? {};
(() => {
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dark = () => window.matchMedia("(prefers-color-scheme: dark)").matches;
  // A canvas knows no light-dark(): ask the page for the colour in force.
  function colour(name) {
    const probe = document.createElement("span");
    probe.className = `colour-${name}`;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  }
  const lineColour = (index) => `hsl(${Math.round((index * 137.508 + 214) % 360)} ${dark() ? "70% 66%" : "68% 40%"})`;

  function shown(value) {
    if (value == null) return "–";
    const size = Math.abs(value);
    return size !== 0 && (size >= 1e7 || size < 1e-3) ? value.toExponential(3) : String(+value.toPrecision(6));
  }

  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });
  const tick = (value) => (value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(1) : compact.format(value));

  // Behind the lines the spans, above them the thresholds.
  function marks(options) {
    return {
      hooks: {
        drawClear: [(u) => {
          const { ctx, bbox } = u;
          ctx.save();
          ctx.fillStyle = colour("alarm-soft");
          for (const [from, to] of options.spans ?? []) {
            const left = Math.max(bbox.left, u.valToPos(from, "x", true));
            const right = Math.min(bbox.left + bbox.width, u.valToPos(to, "x", true));
            if (right > left) ctx.fillRect(left, bbox.top, Math.max(2, right - left), bbox.height);
          }
          ctx.restore();
        }],
        draw: [(u) => {
          const { ctx, bbox } = u;
          ctx.save();
          ctx.strokeStyle = colour("alarm");
          ctx.lineWidth = devicePixelRatio * 1.5;
          ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
          for (const value of options.thresholds ?? []) {
            const y = u.valToPos(value, "y", true);
            ctx.beginPath();
            ctx.moveTo(bbox.left, y);
            ctx.lineTo(bbox.left + bbox.width, y);
            ctx.stroke();
          }
          ctx.restore();
        }],
      },
    };
  }

  // Draws into ``element``; ``zoomed(from, to)`` is called with Unix seconds.
  heliometer.chart = function chart(element, data, options = {}) {
    const axis = { stroke: colour("dim"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 } };
    const low = Math.min(...(options.thresholds ?? []));
    const high = Math.max(...(options.thresholds ?? []));
    const plot = new uPlot({
      width: element.clientWidth,
      height: options.height ?? 340,
      cursor: { drag: { x: true, y: false, setScale: false }, focus: { prox: 30 } },
      focus: { alpha: data.lines.length > 1 ? 0.25 : 1 },
      legend: { live: true },
      scales: {
        x: { time: true, range: () => [data.start, data.end] },
        y: { range: (u, min, max) => {
          if (options.thresholds?.length) { min = Math.min(min ?? low, low); max = Math.max(max ?? high, high); }
          if (min == null) return [0, 1];
          const pad = (max - min || Math.abs(max) || 1) * 0.07;
          return [min >= 0 && min - pad < 0 ? 0 : min - pad, max + pad];
        } },
      },
      axes: [axis, { ...axis, size: 70, values: (u, splits) => splits.map(tick) }],
      series: [
        { value: (u, value) => (value == null ? "–" : new Date(value * 1000).toLocaleString()) },
        ...data.lines.map((line, index) => ({
          label: line.label, stroke: lineColour(index), width: 1.5, spanGaps: true,
          points: { show: data.times.length < 80 }, value: (u, value) => shown(value),
        })),
      ],
      plugins: [marks(options)],
      hooks: {
        setSelect: [(u) => {
          if (u.select.width < 4) return;
          const from = u.posToVal(u.select.left, "x"), to = u.posToVal(u.select.left + u.select.width, "x");
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          options.zoomed?.(Math.floor(from), Math.ceil(to));
        }],
        ready: [(u) => {
          u.over.addEventListener("dblclick", () => options.zoomedOut?.());
          u.over.addEventListener("mousedown", (event) => {
            if (!event.shiftKey || event.button !== 0) return;
            event.stopImmediatePropagation();
            event.preventDefault();
            const begin = event.clientX;
            const seconds = (data.end - data.start) / u.over.clientWidth;
            const move = (at) => u.setScale("x", { min: data.start - (at.clientX - begin) * seconds, max: data.end - (at.clientX - begin) * seconds });
            const end = (at) => {
              document.removeEventListener("mousemove", move);
              document.removeEventListener("mouseup", end);
              options.moved?.(-Math.round((at.clientX - begin) * seconds));
            };
            document.addEventListener("mousemove", move);
            document.addEventListener("mouseup", end);
          }, true);
        }],
      },
    }, [data.times, ...data.values], element);
    return plot;
  };

  // Keeps one chart in an element: draws anew when its size or the colours change.
  heliometer.Chart = class {
    constructor(element) {
      this.element = element;
      new ResizeObserver(() => this.plot?.setSize({ width: element.clientWidth, height: this.plot.height })).observe(element);
      window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.data && this.show(this.data, this.options));
    }
    show(data, options = {}) {
      this.data = data;
      this.options = options;
      this.plot?.destroy();
      this.plot = heliometer.chart(this.element, data, options);
    }
  };
})();
