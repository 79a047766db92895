// The tab of a task instance: a copy while it runs and afterwards, a gate, or one line.
import { Picture } from "./chart.js";
import { address, clock, duration, element, get, milliseconds, moment, parameters, poll, rate, replaceContent, size } from "./common.js";
import { ask } from "./orders.js";

const said = document.getElementById("said");
const main = document.getElementById("main");
const dialog = document.getElementById("dialog");
const where = Object.fromEntries(["dag_id", "run_id", "task_id", "map_index"].map((name) => [name, parameters.get(name) ?? ""]));

const LEVELS = { normal: "good", high: "warn", critical: "bad", unknown: "bad" };
const STATES = { running: "good", throttled: "warn", paused: "bad" };

function say(text, problem = false) {
  said.className = problem ? "problem" : "quiet";
  said.hidden = !text;
  if (said.textContent !== text) said.textContent = text;
}

function table(heads, rows, name = "") {
  const head = element("thead", {}, element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text))));
  return element("div", { class: "scroll" }, element("table", { class: name }, head, element("tbody", {}, ...rows)));
}

const cells = (...values) => element("tr", {}, ...values.map((value) => element("td", { class: "wrap" }, value)));

function toPlan(found) {
  if (!found.repository) return null;
  return element("a", { href: address("plan", { name: found.plan, repository: found.repository }) }, "Backups of the plan");
}

// --- a gate

function showGate(found) {
  const state = found.opened === null ? "has not looked yet" : found.opened ? "open" : "closed";
  const since = (row) => (row.since ? `${clock(row.since)}, ${duration(found.now - row.since)}` : "");
  const limited = (row) => Boolean(row.max || row.critical) || row.level !== "normal";
  const rows = [...found.rows.filter(limited), ...found.rows.filter((row) => !limited(row))].map((row) =>
    element(
      "tr",
      { class: limited(row) ? "" : "quiet" },
      element("td", {}, row.title),
      element("td", {}, row.value),
      element("td", {}, row.max || "no limit"),
      element("td", { class: limited(row) ? LEVELS[row.level] || "" : "" }, limited(row) ? row.level : ""),
      element("td", {}, limited(row) ? since(row) : ""),
      element("td", {}, row.critical),
    ),
  );
  replaceContent(
    main,
    element(
      "div",
      { class: "head" },
      element("h1", {}, `The ${found.gate || "gate"}${found.gate ? " gate" : ""} of plan ${found.plan}`),
      element("span", { class: `badge ${found.opened ? "good" : "warn"}` }, state),
      toPlan(found),
    ),
    element("p", {}, found.text),
    found.looked_at
      ? element("p", { class: "quiet" }, `Last look ${moment(found.looked_at)}, ${duration(found.now - found.looked_at)} ago. ${waiting(found)}`)
      : null,
    rows.length
      ? table(["Signal", "Value", "Closed above", "Level", "Since", "Critical above"], rows)
      : null,
  );
}

function waiting(found) {
  if (found.task_state === "deferred") return "It waits in the triggerer, whose lines are in the task's log.";
  return found.over ? `The task has ended: ${found.task_state}.` : `The task is ${found.task_state}.`;
}

// --- a copy or a guarded command

const shown = { found: null, picture: null, columns: null, pauses: [], offset: 0, at: null };
const part = {};

function build(found) {
  part.title = element("h1");
  part.badge = element("span", { class: "badge" });
  part.reason = element("p");
  part.progress = element("progress", { "aria-label": "How far it is" });
  part.figures = element("dl", { class: "figures" });
  part.buttons = element("div", { class: "actions" });
  part.told = element("p", { role: "status", class: "good" });
  part.notes = element("ul", { class: "notes warn" });
  part.keys = element("ul", { class: "keys" });
  part.upper = element("div", { class: "chart", id: "latency", role: "img" });
  part.lower = element("div", { class: "chart", id: "rates", role: "img", "aria-label": "Read, allowed and WAL, over time" });
  part.pointed = element("p", { class: "pointed", id: "pointed" });
  part.pauses = element("section");
  part.receipt = element("section");
  part.charts = element("section", {}, element("h2", {}, "Over time"), part.keys, part.upper, part.lower, part.pointed);
  replaceContent(
    main,
    element("div", { class: "head" }, part.title, part.badge, toPlan(found)),
    part.reason,
    part.progress,
    part.figures,
    part.buttons,
    part.told,
    part.notes,
    part.charts,
    part.pauses,
    part.receipt,
  );
  for (const [action, label] of [
    ["pause", "Pause…"],
    ["resume", "Resume…"],
    ["limit", "Limit…"],
    ["stop", "Stop…"],
  ]) {
    const attributes = { type: "button", id: action, class: action === "stop" ? "danger" : "" };
    part[action] = element("button", { ...attributes, onclick: () => order(action) }, label);
  }
  part.refused = element("span", { class: "quiet" });
  part.buttons.append(part.pause, part.resume, part.limit, part.stop, part.refused);
}

function order(action) {
  ask(dialog, action, {
    where,
    number: shown.found.number,
    rates: shown.found.rates,
    told: (text) => {
      part.told.textContent = text;
    },
  });
}

function figure(name, value, kind = "") {
  return element("div", {}, element("dt", {}, name), element("dd", { class: kind }, value));
}

function showCopy(found) {
  const what = found.kind === "command" ? "Guarded command" : "Backup";
  part.title.textContent = `${what} ${found.number} of plan ${found.plan}`.replace("  ", " ");
  const live = found.running ? found.live : null;
  const state = live ? live.state : found.task_state;
  part.badge.textContent = state;
  part.badge.className = `badge ${STATES[state] || (state === "success" ? "good" : state === "failed" ? "bad" : "quiet")}`;
  const reason = live ? live.reason : found.outcome;
  const told = [reason, ...found.orders.filter((text) => text !== reason).map((text) => `Order: ${text}`)];
  part.reason.textContent = told.filter(Boolean).join(" · ");
  part.reason.hidden = !part.reason.textContent;
  part.progress.hidden = !(live && live.total);
  if (live && live.total) {
    part.progress.max = Math.max(live.total, live.done);
    part.progress.value = live.done;
  }
  replaceContent(part.figures, ...(live ? figures(found, live) : []));
  part.buttons.hidden = !(found.running && found.number);
  for (const name of ["pause", "resume", "limit", "stop"]) part[name].hidden = !found.may_change;
  // Unless a person ordered a pause there is nothing to take back; where orders cannot be read, one may try.
  part.resume.disabled = !found.orders.some((text) => text.startsWith("paused by") || text.startsWith("Orders cannot"));
  part.refused.textContent = found.may_change
    ? ""
    : "To pause, limit or stop it you need the right to change this DAG's task instances.";
  replaceContent(part.notes, ...found.notes.map((text) => element("li", {}, text)));
  part.notes.hidden = found.notes.length === 0;
  showPauses();
}

function figures(found, live) {
  const share = live.total ? `${size(live.done)} of about ${size(live.total)} (${Math.floor((100 * live.done) / Math.max(live.total, live.done))} %)` : size(live.done);
  const done = live.finish ? `about ${moment(live.finish)}` : "not known yet";
  const window = live.window_end ? moment(live.window_end) : "no end";
  return [
    ...(found.kind === "command" && !live.done ? [] : [figure("read", share), figure("rate", rate(live.rate))]),
    figure("allowed", rate(live.allowed_rate)),
    figure("load", live.level, LEVELS[live.level] || ""),
    found.kind === "command" ? null : figure("will be done", done, live.late ? "bad" : ""),
    figure("window ends", window),
    live.late ? figure("too late for its window", `the plan says: ${live.late}`, "bad") : null,
  ].filter(Boolean);
}

function showKeys(found) {
  const name = found.of_standby ? "read latency" : "commit latency";
  const limits = found.limits[found.of_standby ? "read_latency" : "commit_latency"] || {};
  const keys = [
    ["latency", `${name}, ms`],
    limits.max ? ["limit dashed", `slows down above ${milliseconds(limits.max)}`] : null,
    limits.critical ? ["critical dashed", `pauses above ${milliseconds(limits.critical)}`] : null,
    ["read", "read, MB/s"],
    ["allowed dashed", "allowed, MB/s"],
    ["wal", "WAL written, MB/s"],
    ["area", "paused"],
  ];
  replaceContent(
    part.keys,
    ...keys.filter(Boolean).map(([kind, text]) => element("li", {}, element("span", { class: `key ${kind}` }), text)),
  );
  part.upper.setAttribute("aria-label", `${name} over time, against its limits`);
}

function showPauses() {
  const rows = [...shown.pauses].reverse().slice(0, 50).map((pause) =>
    cells(moment(pause.since), pause.until === null ? "until now" : duration(Math.max(pause.until - pause.since, 1)), pause.cause),
  );
  const key = JSON.stringify(shown.pauses);
  if (shown.pausesKey === key) return;
  shown.pausesKey = key;
  replaceContent(part.pauses, ...(rows.length ? [element("h2", {}, "Pauses"), table(["Since", "For", "Why"], rows)] : []));
}

function showReceipt(found) {
  const rows = found.receipt.map(([name, text]) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", { class: "wrap" }, text)),
  );
  replaceContent(
    part.receipt,
    ...(rows.length
      ? [element("h2", {}, "Receipt"), element("table", { class: "receipt", id: "receipt" }, element("tbody", {}, ...rows))]
      : []),
  );
}

function showPointed() {
  const { columns, found } = shown;
  if (!columns.time.length) return;
  const last = shown.at === null;
  if (last && found.over) {
    part.pointed.textContent = "Point at the picture to read it.";
    return;
  }
  const index = last ? columns.time.length - 1 : Math.min(shown.at, columns.time.length - 1);
  const time = columns.time[index];
  const pause = shown.pauses.find((one) => one.since <= time && (one.until === null || time <= one.until));
  const name = found.of_standby ? "reads" : "commits";
  part.pointed.textContent = [
    `${last ? "Last: " : ""}${clock(time)}`,
    `${name} ${milliseconds(columns.latency[index])}`,
    `read ${rate(columns.rate[index])} of ${rate(columns.allowed[index])} allowed`,
    `WAL ${columns.wal_rate[index] === null ? "not measured" : rate(columns.wal_rate[index])}`,
    pause ? `paused: ${pause.cause}` : null,
  ]
    .filter(Boolean)
    .join(" · ");
}

function merge(found, whole) {
  if (whole) {
    shown.columns = found.columns;
    shown.pauses = found.pauses;
  } else {
    for (const [name, values] of Object.entries(found.columns)) shown.columns[name].push(...values);
    for (const pause of found.pauses) {
      // The task and the repository know the beginning of a pause to within two seconds.
      const known = shown.pauses.find((one) => one.since <= (pause.until ?? Infinity) && pause.since <= (one.until ?? Infinity));
      if (known) known.until = pause.until;
      else shown.pauses.push(pause);
    }
  }
}

async function look() {
  const times = shown.columns ? shown.columns.time : [];
  const whole = shown.found === null || times.length === 0 || shown.again;
  try {
    const found = await get("task", whole ? where : { ...where, after: times[times.length - 1] });
    main.hidden = found.kind === "other";
    say(found.kind === "other" ? found.text : "");
    if (found.kind === "other") return false;
    if (found.kind === "gate") {
      showGate(found);
      return !found.over;
    }
    if (part.title === undefined) build(found);
    if (!whole && found.over) {
      // Its end has come: what the repository has of it now is more than what was seen.
      shown.again = true;
      return look();
    }
    shown.again = false;
    shown.found = found;
    shown.offset = found.now - Date.now() / 1000;
    merge(found, whole);
    showCopy(found);
    showKeys(found);
    if (whole) showReceipt(found);
    part.charts.hidden = shown.columns.time.length < 2;
    if (!part.charts.hidden) {
      shown.picture ??= new Picture(
        part.upper,
        part.lower,
        {
          get columns() {
            return shown.columns;
          },
          get pauses() {
            return shown.pauses;
          },
          now: () => Date.now() / 1000 + shown.offset,
          limits: (by) => {
            const limits = shown.found.limits[shown.found.of_standby ? "read_latency" : "commit_latency"] || {};
            return { max: limits.max && limits.max * by, critical: limits.critical && limits.critical * by };
          },
        },
        (index) => {
          shown.at = index;
          showPointed();
        },
      );
      shown.picture.update();
      showPointed();
    }
    return !found.over;
  } catch (error) {
    say(error.message, true);
    return true;
  }
}

poll(2, look);
