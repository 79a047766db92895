// Two panels over one time: what commits felt, and how fast the copy read. Pauses are shaded in both.

const HEIGHTS = [150, 180];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function shade(pauses, now) {
  return (chart) => {
    const { ctx, bbox } = chart;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.fillStyle = colour("--pause");
    for (const pause of pauses()) {
      const left = chart.valToPos(pause.since, "x", true);
      const right = chart.valToPos(pause.until ?? now(), "x", true);
      ctx.fillRect(left, bbox.top, Math.max(right - left, 2), bbox.height);
    }
    ctx.restore();
  };
}

/** `limits()` gives { max, critical } in the panel's unit; lines that are out of sight are left out. */
function limitLines(limits) {
  return (chart) => {
    const { ctx, bbox } = chart;
    const { max, critical } = limits();
    ctx.save();
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
    for (const [value, name] of [
      [max, "--warn"],
      [critical, "--bad"],
    ]) {
      if (value === null || value === undefined || value > chart.scales.y.max) continue;
      const y = chart.valToPos(value, "y", true);
      ctx.strokeStyle = colour(name);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    ctx.restore();
  };
}

function timeLabels(chart, splits) {
  const seconds = splits.length > 1 && splits[1] - splits[0] < 60;
  const format = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...(seconds ? { second: "2-digit" } : {}) };
  return splits.map((split) => new Date(split * 1000).toLocaleTimeString(undefined, format));
}

function axes(title, withTimes) {
  const common = {
    stroke: colour("--quiet"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1 },
    font: "11px system-ui, sans-serif",
  };
  return [
    withTimes ? { ...common, space: 80, size: 30, values: timeLabels } : { ...common, space: 80, size: 6, values: () => [] },
    { ...common, label: title, labelSize: 18, labelFont: "11px system-ui, sans-serif", size: 52 },
  ];
}

const line = (stroke, extra = {}) => ({ stroke: colour(stroke), width: 1.6, points: { show: false }, ...extra });

/**
 * Draws into two nodes. `source` has `columns` (time in seconds since 1970), `pauses`, `limits`, `now()` and `live`;
 * `pointed(index)` is told what the cursor is at, null when it leaves.
 */
export class Picture {
  constructor(upper, lower, source, pointed) {
    this.nodes = [upper, lower];
    this.source = source;
    this.pointed = pointed;
    this.charts = [];
    addEventListener("themechange", () => this.rebuild());
    new ResizeObserver(() => this.resize()).observe(upper);
  }

  data() {
    const { columns } = this.source;
    const scaled = (values, by) => values.map((value) => (value === null ? null : value * by));
    return [
      [columns.time, scaled(columns.latency, 1e3)],
      [columns.time, scaled(columns.rate, 1e-6), scaled(columns.allowed, 1e-6), scaled(columns.wal_rate, 1e-6)],
    ];
  }

  rebuild() {
    for (const chart of this.charts) chart.destroy();
    const width = Math.max(this.nodes[0].clientWidth, 200);
    const shared = {
      width,
      legend: { show: false },
      cursor: { sync: { key: "copy" }, drag: { x: false, y: false }, points: { size: 6 } },
    };
    const hooks = (limits) => ({
      drawClear: [shade(() => this.source.pauses, () => this.source.now())],
      draw: [limitLines(limits)],
      setCursor: [(chart) => this.pointed(chart.cursor.left >= 0 ? chart.cursor.idx : null)],
    });
    const latencyLimits = () => this.source.limits(1e3);
    const x = { time: true };
    this.charts = [
      new uPlot(
        {
          ...shared,
          height: HEIGHTS[0],
          hooks: hooks(latencyLimits),
          scales: { x, y: { range: (_, low, high) => [0, heightOf(high, latencyLimits())] } },
          axes: axes("ms", false),
          series: [{}, line("--bad")],
        },
        this.data()[0],
        this.nodes[0],
      ),
      new uPlot(
        {
          ...shared,
          height: HEIGHTS[1],
          hooks: hooks(() => ({})),
          scales: { x, y: { range: (_, low, high) => [0, Math.max((high || 0) * 1.1, 0.1)] } },
          axes: axes("MB/s", true),
          series: [
            {},
            line("--accent", { fill: `${colour("--accent")}33` }),
            line("--text", { dash: [5, 4], width: 1.2 }),
            line("--good", { width: 1.4 }),
          ],
        },
        this.data()[1],
        this.nodes[1],
      ),
    ];
  }

  resize() {
    const width = this.nodes[0].clientWidth;
    if (width > 0) this.charts.forEach((chart, index) => chart.setSize({ width, height: HEIGHTS[index] }));
  }

  /** After a change of `source`. */
  update() {
    if (!this.charts.length) this.rebuild();
    else this.data().forEach((data, index) => this.charts[index].setData(data));
  }
}

// The limit is in the picture unless it is far above all that was measured: a flat line at the bottom says nothing.
function heightOf(high, { max, critical }) {
  let top = Math.max((high || 0) * 1.2, 1);
  if (max && max <= top * 6) top = Math.max(top, max * 1.15);
  if (critical && critical <= top * 1.5) top = Math.max(top, critical * 1.1);
  return top;
}
