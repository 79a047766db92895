// The page of the week: the usual load as a heat map, windows and blackouts over it, and what lies ahead.
import { element, get, moment, parameters, replaceContent } from "./common.js";
import { allPlans, problems, table, until } from "./fleet.js";

const byId = (id) => document.getElementById(id);
const choice = byId("plan");
const content = byId("content");

/** `Wed 2026-11-25 01:00`, as the clock of the plan shows it: the server has said it in that zone. */
const there = (text) => `${["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][new Date(`${text.slice(0, 10)}T00:00Z`).getUTCDay()]} ${text.slice(0, 10)} ${text.slice(11, 16)}`;

const heat = (load) => (load === null ? "unknown" : load <= 0.1 ? "cold" : load <= 0.25 ? "cool" : load <= 0.6 ? "warm" : "hot");

function half(one) {
  if (one.forbidden > 0) return "forbidden";
  if (one.open > 0) return one.busy ? "busy" : "open";
  return "closed";
}

const SAID = { forbidden: "blackout", busy: "window, not quiet", open: "window", closed: "no window" };

function hour(day, halves) {
  const loads = halves.map((one) => one.load);
  const load = loads.includes(null) ? null : Math.max(...loads);
  const percent = load === null ? "?" : String(Math.min(99, Math.round(load * 100)));
  const marks = halves.map(half);
  const about = [...new Set(marks)].map((mark) => SAID[mark]).join(", then ");
  const said = `${day.name} ${day.day} ${halves[0].clock}: ${load === null ? "load not known" : `${Math.round(load * 100)} % of the peak`}; ${about}`;
  const sign = marks.includes("forbidden") ? "✕" : marks.includes("busy") ? "!" : "";
  return element(
    "td",
    { class: `hour ${heat(load)}`, tabindex: "-1", title: said, "aria-label": said },
    element("span", { "aria-hidden": "true" }, percent, sign ? element("sup", {}, sign) : null),
    element("span", { class: "halves", "aria-hidden": "true" }, ...marks.map((mark) => element("i", { class: mark }))),
  );
}

function map(week) {
  const hours = Array.from({ length: 24 }, (_, number) => number);
  const said = element("p", { class: "quiet", id: "hour", "aria-live": "polite" }, "Choose an hour to see what is known of it.");
  const grid = element(
    "table",
    { class: "week", role: "grid", "aria-label": "The usual load of each hour", "aria-describedby": "legend" },
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, week.tz), ...hours.map((number) => element("th", { scope: "col" }, String(number).padStart(2, "0"))))),
    element(
      "tbody",
      {},
      ...week.days.map((day) =>
        element(
          "tr",
          {},
          element("th", { scope: "row" }, day.name, element("small", { class: "quiet line" }, day.day.slice(5))),
          ...hours.map((number) => hour(day, day.half_hours.slice(2 * number, 2 * number + 2))),
        ),
      ),
    ),
  );
  const cells = [...grid.tBodies[0].rows].map((row) => [...row.cells].slice(1));
  cells[0][0].tabIndex = 0;
  // One stop for the tab key; arrows walk from there.
  grid.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const row = cells.findIndex((line) => line.includes(event.target));
    if (!step || row < 0) return;
    const next = cells[row + step[0]]?.[cells[row].indexOf(event.target) + step[1]];
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  for (const kind of ["focusin", "mouseover"]) {
    grid.addEventListener(kind, (event) => {
      const cell = event.target.closest("td");
      if (cell) said.textContent = cell.getAttribute("aria-label");
    });
  }
  return [element("div", { class: "scroll" }, grid), said, legend()];
}

function legend() {
  const sample = (kind, text) => element("span", { class: "sample" }, element("i", { class: kind, "aria-hidden": "true" }), text);
  return element(
    "p",
    { class: "legend", id: "legend" },
    "Numbers: the usual load in percent of the peak, ? where it is not known. Bars: ",
    sample("open", "window"),
    sample("busy", "window that is not quiet (!)"),
    sample("forbidden", "blackout (✕)"),
  );
}

function list(heading, lines) {
  return lines.length ? [element("h2", {}, heading), element("ul", {}, ...lines.map((line) => element("li", {}, line)))] : [];
}

function due(at) {
  if (!at) return "none is planned";
  const said = moment(at);
  return new Date(at) <= new Date() ? `${said}: due now` : element("span", {}, `${said}, in `, until(at));
}

function draw(week) {
  const runs = week.runs.map((run) => [
    run.dag_id,
    due(run.at),
    run.paused ? element("span", { class: "warn" }, "paused: it does not run") : "",
  ]);
  const windows = week.windows.slice(0, 10).map((one) => `${there(one.start)} to ${there(one.end)}`);
  replaceContent(
    content,
    ...problems(week.problems),
    element("p", {}, week.about || "No load is recorded for this plan: backup-guard record-load, or LoadRecordOperator, does."),
    element("p", {}, `Windows: ${week.always_open ? "always open" : week.calendar} (${week.tz}).`),
    ...week.conflicts.map((text) => element("p", { class: "warn" }, `Conflict: ${text}`)),
    element("h2", {}, "The next seven days"),
    ...map(week),
    element("h2", {}, "Upcoming runs"),
    table(["DAG", "Next run", "Note"], runs),
    ...list(`Windows to come (${week.tz})`, week.always_open ? ["It is always open."] : windows),
    ...list(`Blackouts to come (${week.tz})`, week.forbidden.map((one) => `${there(one.start)} to ${there(one.end)}: ${one.text}`)),
    ...list("Changes of clocks ahead", week.clocks.map((one) => one.text)),
    ...list("What the load proposes", (week.verdict || []).filter((line) => line !== "Proposed:").map((line) => line.trim())),
  );
  content.hidden = false;
}

async function show() {
  const [name, repository] = JSON.parse(choice.value);
  const said = byId("said");
  said.className = "quiet";
  said.textContent = `Reading the week of ${name}…`;
  content.hidden = true;
  try {
    const week = await get("week", { name, repository });
    if (choice.value !== JSON.stringify([name, repository])) return; // another was chosen meanwhile
    draw(week);
    said.textContent = `The week of ${name}.`;
  } catch (error) {
    said.className = "problem";
    said.textContent = error.message;
  }
}

try {
  const wanted = JSON.stringify([parameters.get("name"), parameters.get("repository")]);
  const found = [];
  await allPlans((piece) => found.push(...piece.plans));
  const key = (plan) => JSON.stringify([plan.name, plan.repository]);
  const twice = (plan) => found.filter((other) => other.name === plan.name).length > 1;
  found.sort((first, second) => (first.name < second.name ? -1 : 1));
  choice.append(...found.map((plan) => element("option", { value: key(plan) }, twice(plan) ? `${plan.name} in ${plan.repository}` : plan.name)));
  choice.disabled = found.length === 0;
  if (found.length) {
    choice.value = found.some((plan) => key(plan) === wanted) ? wanted : key(found[0]);
    choice.addEventListener("change", show);
    await show();
  } else byId("said").textContent = "No DAG that you may see has a task with a plan.";
} catch (error) {
  byId("said").className = "problem";
  byId("said").textContent = error.message;
}
