// The page of one plan: its backups, why each is kept, what proves it, drills, and how to restore.
import { element, get, milliseconds, moment, parameters, poll, redraw, replaceContent } from "./common.js";
import { address, ago, drilled, duration, opening, problems, rate, running, size, state, table, trend, verified } from "./fleet.js";

const SECONDS = 10;
const byId = (id) => document.getElementById(id);
const plan = { name: parameters.get("name") || "", repository: parameters.get("repository") || "" };
const dialog = byId("backup");
let drawn = "";

function facts(rows) {
  return element(
    "dl",
    { class: "facts" },
    ...rows.filter(([, value]) => value !== null && value !== "").flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)]),
  );
}

/** A command to copy; where the browser gives no clipboard, it is selected instead. */
function command(text) {
  const code = element("code", { class: "command", tabindex: "0" }, text);
  const button = element("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
    }
    setTimeout(() => (button.textContent = "Copy"), 3000);
  });
  return element("div", { class: "copy" }, code, button);
}

function head(document) {
  const { status } = document;
  return [
    ...problems([...status.problems, ...document.problems]),
    facts([
      ["Stands", element("span", {}, state(status.protection), `: ${status.reason}`)],
      ["Last verified", element("span", {}, verified(status), status.last_verified ? `, ${status.last_verified.backup_id}` : "")],
      ["Last drill", drilled(status.drill)],
      ["Runs now", running(document.live, status.running) || "nothing"],
      ["Next window", opening(status.window)],
      ["Retention", document.retention],
      ["Size", trend(status.size, size)],
      ["Duration", trend(status.seconds, duration)],
      ["Repository", element("span", { class: "wrap" }, status.repository)],
      ["DAGs", document.dag_ids.join(", ")],
    ]),
    ...status.conflicts.map((text) => element("p", { class: "warn" }, `Conflict: ${text}`)),
    ...status.alerts.map((one) => element("p", { class: "bad" }, `Alert, ${one.severity}: ${one.title}, `, ago(one.at))),
  ];
}

function backups(found) {
  if (!found.length) return [element("h2", {}, "Backups"), element("p", { class: "quiet" }, "There is none.")];
  const headings = ["Backup", "Taken", "Verified", "Why it stays", "Database", "Stored", "Duration", "Drill"];
  const rows = found.map((one) => [
    element("button", { type: "button", class: "plain link", onclick: () => open(one.backup_id) }, one.backup_id),
    ago(one.taken_at),
    element("span", {}, state(one.verdict || "not yet"), one.level ? element("small", { class: "quiet line" }, one.level) : null),
    element("span", { class: one.keep ? "wrap" : "wrap warn" }, `${one.keep ? "" : "expires: "}${one.reasons.join("; ")}`),
    size(one.database_size),
    size(one.stored_size),
    duration(one.seconds),
    one.drill_passed === null ? "" : state(one.drill_passed ? "passed" : "failed"),
  ]);
  return [element("h2", {}, `Backups (${found.length})`), table(headings, rows, { id: "backups" })];
}

function restore(found) {
  const best = found.find((one) => one.verdict === "verified" || one.verdict === "readable");
  if (!best) return [];
  return [
    element("h2", {}, "Restore"),
    element("p", {}, "On any machine with this package, without Airflow; of the last verified backup:"),
    command(best.restore),
  ];
}

function drills(found) {
  if (!found.length) return [];
  const rows = found.map((one) => [
    ago(one.ended_at),
    state(one.passed ? "passed" : "failed"),
    one.rto_seconds === null ? "no answer" : duration(one.rto_seconds),
    one.backup_id,
    element("span", { class: "wrap" }, one.summary),
  ]);
  return [element("h2", {}, "Restore drills"), table(["When", "Result", "Achieved RTO", "Backup", "What was found"], rows)];
}

function rogues(found) {
  if (!found.length) return [];
  const rows = found.map((one) => [ago(one.seen_at), one.title, element("span", { class: "wrap" }, one.origin), one.in_window ? "within" : "outside", element("span", { class: "wrap" }, one.outcome || "not known")]);
  return [element("h2", {}, "Backups that nobody guards"), table(["Seen", "What", "By", "Window", "What became of it"], rows)];
}

function audit(found) {
  const heading = element("h2", {}, "Last audit");
  if (!found) return [heading, element("p", { class: "quiet" }, "There is none: backup-guard audit, or BackupAuditOperator, makes one.")];
  const report = `api/audit?${new URLSearchParams({ ...plan, number: found.number })}`;
  const rows = found.findings.map((one) => [
    element("span", { class: "wrap" }, `${one.check} ${one.title}`),
    element("span", { class: `wrap ${one.accepted ? "quiet" : one.verdict === "fail" ? "bad" : "warn"}` }, one.state),
    element("span", { class: "wrap" }, one.said, one.accepted ? element("small", { class: "quiet line" }, `Accepted by ${one.accepted}`) : null),
    element("span", { class: "wrap" }, one.remedy),
  ]);
  return [
    heading,
    element("p", {}, state(found.good ? "passed" : "failed"), `: ${found.text} Audit ${found.number}, ${found.checks} checks, `, ago(found.at), ". ", element("a", { href: report }, "The whole report")),
    element("p", { class: "quiet wrap" }, `Kept as ${found.key}. backup-guard audit --verify-chain tells whether it is what was made.`),
    ...(rows.length ? [table(["Check", "Verdict", "Found", "What to do"], rows, { id: "findings" })] : []),
  ];
}

function proof(found) {
  const { verification, drill, impact } = found;
  const parts = [...problems(found.problems)];
  parts.push(
    facts([
      ["Taken", moment(found.taken_at)],
      ["Contains", found.contains],
      ["Size", `${size(found.database_size)}, stored as ${size(found.stored_size)}${found.encrypted ? ", encrypted" : ""}`],
      ["Copied", `in ${duration(found.seconds)}, at ${rate(found.rate)}`],
      ["Commits felt", `before ${milliseconds(impact.before.p95)}, during ${milliseconds(impact.during.p95)} (p95)`],
      ["Slowed down", `${duration(impact.seconds_throttled)} throttled, ${duration(impact.seconds_paused)} paused`],
      ["System", found.system_identifier],
    ]),
  );
  parts.push(element("h3", {}, "Restore"));
  if (verification?.verdict === "damaged") parts.push(element("p", { class: "bad" }, "It is damaged: restore another one, unless there is none."));
  parts.push(command(found.restore));
  parts.push(element("h3", {}, "What proves it"));
  if (!verification) parts.push(element("p", { class: "warn" }, "It was not verified yet."));
  else {
    parts.push(element("p", {}, state(verification.verdict), ", ", ago(verification.verified_at)));
    const rows = verification.evidence.map((one) => [one.level, state(one.status), ago(one.at), element("span", { class: "wrap" }, one.detail)]);
    if (rows.length) parts.push(table(["Level", "State", "Since", "Known by"], rows));
    parts.push(...verification.problems.map((text) => element("p", { class: "bad wrap" }, text)));
  }
  if (drill) {
    parts.push(element("h3", {}, "Restore drill"), element("p", {}, drilled(drill), element("span", { class: "line wrap" }, drill.summary)));
    const checks = drill.checks.map((one) => [one.name, state(one.status), element("span", { class: "wrap" }, `${one.detail} ${one.remedy}`.trim())]);
    if (checks.length) parts.push(table(["Check", "State", "Found"], checks));
  }
  if (found.has_telemetry && !found.encrypted) {
    const query = new URLSearchParams({ ...plan, backup_id: found.backup_id });
    parts.push(
      element("h3", {}, "What the copy did"),
      element("img", { class: "picture", src: `api/picture?${query}`, alt: `Commit latency and rate while ${found.backup_id} was copied` }),
    );
  } else if (found.has_telemetry) {
    parts.push(element("p", { class: "quiet" }, "Its telemetry is encrypted: backup-guard show --picture FILE.svg --identity FILE draws it."));
  }
  return parts;
}

async function open(backupId) {
  byId("backup-id").textContent = `Backup ${backupId}`;
  replaceContent(byId("backup-content"), element("p", { class: "quiet" }, "Reading the backup…"));
  dialog.showModal();
  try {
    replaceContent(byId("backup-content"), ...proof(await get("backup", { ...plan, backup_id: backupId })));
  } catch (error) {
    replaceContent(byId("backup-content"), element("p", { class: "problem" }, error.message));
  }
}

async function look() {
  try {
    const found = await get("plan", plan);
    const text = JSON.stringify(found);
    byId("said").hidden = true;
    byId("content").hidden = false;
    if (text !== drawn) {
      drawn = text;
      redraw(byId("content"), ...head(found), ...backups(found.backups), ...restore(found.backups), ...drills(found.drills), ...rogues(found.rogues), ...audit(found.audit));
    }
  } catch (error) {
    byId("said").hidden = false;
    byId("said").className = "problem";
    byId("said").textContent = error.message;
  }
}

byId("name").textContent = plan.name;
document.title = `Plan ${plan.name}`;
byId("week").href = address("off-peak", plan);
byId("close").addEventListener("click", () => dialog.close());
poll(SECONDS, look);
