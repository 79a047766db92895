// The page of all plans: the worst first; sorted, filtered and paged here, as the pieces come.
import { duration, element, poll, redraw, size } from "./common.js";
import { address, allPlans, drilled, opening, running, state, trend, verified } from "./fleet.js";

const PAGE = 50;
const SECONDS = 10;
const RANKS = ["unprotected", "late", "unknown", "no rpo", "protected"];
const byId = (id) => document.getElementById(id);
const table = byId("plans");
const plans = new Map();
let sorted = { column: 1, up: true };
let page = 0;

const protection = (plan) => (plan.problem ? "unknown" : plan.status ? plan.status.protection : null);
const time = (value) => (value ? new Date(value).getTime() : 0);
const rank = (plan) => 2 * (RANKS.indexOf(protection(plan)) + (plan.status && plan.status.good ? 0.5 : 0));

/** Heading, what it is sorted by, and what is in the cell. */
const COLUMNS = [
  ["Plan", (plan) => plan.name, name],
  ["Stands", rank, stands],
  ["Last verified", (plan) => -time(plan.status?.recovery_point), (plan) => plan.status && verified(plan.status)],
  ["Last drill", (plan) => -time(plan.status?.drill?.ended_at), (plan) => plan.status && drilled(plan.status.drill, plan.status.known)],
  ["Runs now", (plan) => -(plan.live.length + (plan.status?.running.length || 0)), (plan) => running(plan.live, plan.status?.running)],
  ["Next window", (plan) => (plan.status?.window?.open ? 0 : time(plan.status?.window?.next_start) || Infinity), (plan) => plan.status && opening(plan.status.window)],
  ["Alerts", (plan) => -(plan.status?.alerts.length || 0), alerts],
  ["Size", (plan) => -(plan.status?.size?.newest || 0), (plan) => plan.status && trend(plan.status.size, size)],
  ["Duration", (plan) => -(plan.status?.seconds?.newest || 0), (plan) => plan.status && trend(plan.status.seconds, duration)],
];

function name(plan) {
  return element(
    "span",
    {},
    element("a", { href: address("plan", plan) }, plan.name),
    element("small", { class: "quiet line wrap" }, plan.dag_ids.join(", ")),
  );
}

function stands(plan) {
  if (plan.problem) return element("span", {}, state("unknown"), element("small", { class: "bad line wrap" }, plan.problem));
  if (!plan.status) return element("span", { class: "quiet" }, "asking…");
  const { protection: word, reason, problems, damaged, drill, conflicts } = plan.status;
  const more = [
    ...problems.map((one) => one.message),
    ...(damaged.length ? [damaged.length === 1 ? "a backup is damaged" : `${damaged.length} backups are damaged`] : []),
    ...(drill && !drill.passed ? ["the last drill failed"] : []),
    ...conflicts.slice(0, 1),
  ];
  const said = more.length ? more[0] : word === "protected" || word === "no rpo" ? null : reason;
  return element(
    "span",
    {},
    state(word, reason),
    said ? element("small", { class: "warn line wrap" }, said + (more.length > 1 ? `, and ${more.length - 1} more` : "")) : null,
  );
}

function alerts(plan) {
  const found = plan.status?.alerts || [];
  if (!found.length) return !plan.status ? "" : plan.status.known ? "none" : "unknown";
  return element("span", { class: "bad", title: found.map((one) => one.title).join("; ") }, `${found.length} open`);
}

function matches(plan) {
  const searched = byId("search").value.trim().toLowerCase();
  const wanted = byId("stands").value;
  const text = [plan.name, plan.repository, ...plan.dag_ids].join(" ").toLowerCase();
  if (searched && !text.includes(searched)) return false;
  if (wanted === "attention") return Boolean(plan.problem) || (plan.status !== null && !plan.status.good);
  if (wanted === "running") return plan.live.length > 0 || Boolean(plan.status?.running.length);
  return !wanted || protection(plan) === wanted;
}

function compare(first, second) {
  const [, key] = COLUMNS[sorted.column];
  const [a, b] = [key(first), key(second)];
  const order = a < b ? -1 : a > b ? 1 : first.name < second.name ? -1 : 1;
  return sorted.up ? order : -order;
}

function draw() {
  const found = [...plans.values()].filter(matches).sort(compare);
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  page = Math.min(page, pages - 1);
  const shown = found.slice(page * PAGE, (page + 1) * PAGE);
  redraw(
    table.tBodies[0],
    ...shown.map((plan) =>
      element("tr", {}, ...COLUMNS.map(([heading, , cell]) => element("td", { "data-label": heading }, cell(plan) || ""))),
    ),
  );
  table.hidden = plans.size === 0;
  byId("filters").hidden = plans.size === 0;
  byId("pager").hidden = pages === 1;
  byId("range").textContent = found.length ? `${page * PAGE + 1} to ${page * PAGE + shown.length} of ${found.length}` : "none";
  byId("previous").disabled = page === 0;
  byId("next").disabled = page === pages - 1;
  for (const [number, heading] of [...table.tHead.rows[0].cells].entries()) {
    heading.setAttribute("aria-sort", number !== sorted.column ? "none" : sorted.up ? "ascending" : "descending");
  }
}

function say(total) {
  const all = [...plans.values()];
  const bad = all.filter((plan) => plan.problem || (plan.status && !plan.status.good)).length;
  const asked = all.filter((plan) => !plan.problem && !plan.status).length;
  const ages = all.map((plan) => plan.age_seconds).filter((age) => age !== null);
  const said = [`${total} ${total === 1 ? "plan" : "plans"} in the DAGs that you may see`];
  said.push(bad ? `${bad} ${bad === 1 ? "needs" : "need"} attention` : "none needs attention");
  if (asked) said.push(`${asked} still asked for`);
  if (Math.max(...ages) >= 5) said.push(`as of ${duration(Math.max(...ages))} ago at most`);
  byId("said").className = "quiet";
  byId("said").textContent = total ? `${said.join("; ")}.` : "No DAG that you may see has a task with a plan.";
}

async function look() {
  const seen = new Set();
  try {
    const total = await allPlans((piece) => {
      for (const plan of piece.plans) {
        const key = JSON.stringify([plan.name, plan.repository]);
        seen.add(key);
        plans.set(key, plan);
      }
      draw();
    });
    for (const key of plans.keys()) if (!seen.has(key)) plans.delete(key);
    draw();
    say(total);
  } catch (error) {
    byId("said").className = "problem";
    byId("said").textContent = error.message;
  }
  return undefined;
}

for (const [number, [heading]] of COLUMNS.entries()) {
  const sort = () => {
    sorted = { column: number, up: sorted.column === number ? !sorted.up : true };
    draw();
  };
  table.tHead.rows[0].append(element("th", { scope: "col" }, element("button", { type: "button", class: "plain", onclick: sort }, heading)));
}
byId("filters").addEventListener("submit", (event) => event.preventDefault());
for (const id of ["search", "stands"]) {
  byId(id).addEventListener("input", () => {
    page = 0;
    draw();
  });
}
const turn = (by) => () => {
  page += by;
  draw();
};
byId("previous").addEventListener("click", turn(-1));
byId("next").addEventListener("click", turn(1));
poll(SECONDS, look);
