// What the pages about plans share: words and marks for how things stand, lists of plans, tables.
import { address, duration, element, get, moment, rate, size } from "./common.js";

/** Sign and class of each state; the word is always beside it. */
const STATES = {
  protected: ["✓", "good"],
  "no rpo": ["✓", "quiet"],
  late: ["!", "bad"],
  unprotected: ["✕", "bad"],
  unknown: ["?", "warn"],
  verified: ["✓", "good"],
  readable: ["✓", "good"],
  damaged: ["✕", "bad"],
  passed: ["✓", "good"],
  failed: ["✕", "bad"],
  ok: ["✓", "good"],
  warning: ["!", "warn"],
};

export function state(word, title = null) {
  const [sign, kind] = STATES[word] || ["", "quiet"];
  return element("span", { class: `state ${kind}`, title }, element("span", { "aria-hidden": "true" }, sign), ` ${word}`);
}

const seconds = (value) => (Date.now() - new Date(value).getTime()) / 1000;

/** `3 h ago`, in its largest unit; the moment itself on hover. */
export function ago(value) {
  if (!value) return "never";
  return element("time", { datetime: value, title: moment(value) }, `${largest(seconds(value))} ago`);
}

/** When the last verified backup was taken; that none is known is not that there is none. */
export function verified(status) {
  if (!status.recovery_point) return status.protection === "unknown" ? "unknown" : "never";
  return ago(status.recovery_point);
}

/** `3 h`, how far that is ahead; `now` once it is not. */
export function until(value) {
  if (seconds(value) >= 0) return "now";
  return element("time", { datetime: value, title: moment(value) }, largest(-seconds(value)));
}

const largest = (value) => duration(value).split(" ").slice(0, 2).join(" ");

const SVG = "http://www.w3.org/2000/svg";

/** The last values as an area, from zero up; what it says is beside it in words. */
function area(values) {
  const drawn = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "polygon");
  const most = Math.max(...values) || 1;
  const points = values.map((value, number) => `${(48 * number) / (values.length - 1)},${(16 - (15 * value) / most).toFixed(1)}`);
  for (const [name, value] of [["viewBox", "0 0 48 16"], ["class", "trend"], ["aria-hidden", "true"]]) drawn.setAttribute(name, value);
  path.setAttribute("points", `0,16 ${points.join(" ")} 48,16`);
  drawn.append(path);
  return drawn;
}

/** The newest value, a picture of those before it, and how it compares. */
export function trend(value, show) {
  if (!value) return "";
  const drawn = value.recent.length > 2 ? area(value.recent) : null;
  if (value.change === null) return element("span", {}, show(value.newest), drawn);
  const percent = Math.round(value.change * 100);
  const sign = percent > 0 ? "▲ +" : percent < 0 ? "▼ −" : "";
  const said = percent === 0 ? "as usual" : `${sign}${Math.abs(percent)} %`;
  return element("span", {}, show(value.newest), drawn, element("small", { class: "quiet line" }, said));
}

/** How long the last drill took, against the plan's RTO. */
export function drilled(drill, known = true) {
  if (!drill) return known ? "never" : "unknown";
  const took = drill.rto_seconds === null ? "no answer" : duration(drill.rto_seconds);
  const target = drill.target_seconds == null ? "" : ` of ${duration(drill.target_seconds)}`;
  const word = drill.passed && drill.met !== false ? "passed" : "failed";
  return element("span", {}, state(word, drill.summary), element("small", { class: "quiet line" }, `${took}${target}, `, ago(drill.ended_at)));
}

export function opening(window) {
  if (!window) return "unknown";
  if (window.open) return element("span", { title: window.text }, "open", window.end ? element("small", { class: "quiet line" }, until(window.end), " left") : null);
  if (!window.next_start) return "none";
  return element("span", { title: window.text }, "in ", until(window.next_start));
}

const task = ({ dag_id, run_id, task_id, map_index }) => `task?${new URLSearchParams({ dag_id, run_id, task_id, map_index })}`;

/** What runs: as Airflow has it live, or as the repository knows it. */
export function running(live, known) {
  if (live.length) {
    return element(
      "span",
      {},
      ...live.map((copy) => {
        const share = copy.total ? ` ${Math.min(100, Math.floor((100 * copy.done) / copy.total))} %` : "";
        const kind = copy.state === "paused" ? "bad" : copy.state === "throttled" ? "warn" : "good";
        return element(
          "span",
          { class: "line", title: copy.reason },
          element("a", { class: kind, href: task(copy) }, `${copy.state}${share}`),
          element("small", { class: "quiet line" }, `${rate(copy.rate)}, allowed ${rate(copy.allowed_rate)}`),
        );
      }),
    );
  }
  if (!known || !known.length) return "";
  return element("span", { title: known.flatMap((copy) => copy.orders).join("; ") }, "since ", largest(seconds(known[0].since)));
}

/** Calls `each` with every piece of the list of plans, as they come. */
export async function allPlans(each) {
  const limit = 50;
  const first = await get("plans", { offset: 0, limit });
  each(first);
  const offsets = [];
  for (let offset = limit; offset < first.total; offset += limit) offsets.push(offset);
  // Two at a time, so that the rest of Airflow's UI is not kept waiting.
  const worker = async () => {
    for (let offset = offsets.shift(); offset !== undefined; offset = offsets.shift()) each(await get("plans", { offset, limit }));
  };
  await Promise.all([worker(), worker()]);
  return first.total;
}

/** A table whose cells carry their heading, for phones. */
export function table(headings, rows, attributes = {}) {
  return element(
    "div",
    { class: "scroll" },
    element(
      "table",
      { class: "cards", ...attributes },
      element("thead", {}, element("tr", {}, ...headings.map((heading) => element("th", { scope: "col" }, heading)))),
      element(
        "tbody",
        {},
        ...rows.map((cells) =>
          element("tr", {}, ...cells.map((cell, number) => element("td", { "data-label": headings[number] }, cell))),
        ),
      ),
    ),
  );
}

export function problems(found) {
  return found.map((one) => element("p", { class: "problem" }, `${one.message} ${one.remedy}`.trim()));
}

// The pages themselves name no address but those of their own files; links between them are made here.
for (const link of document.querySelectorAll("a[data-page]")) link.href = link.dataset.page;

export { address, duration, rate, size };
