// Pause, resume, limit and stop: each is confirmed in a dialog, which says what it does.
import { element, post, replaceContent } from "./common.js";

const ORDERS = {
  pause: {
    title: "Pause this copy?",
    does: "It reads only a trickle, at the plan's min_rate, until it is resumed. Nothing that it has read is lost.",
    button: "Pause",
  },
  resume: {
    title: "Resume this copy?",
    does: "It takes back the pause that a person ordered. A pause because of critical load ends with the load.",
    button: "Resume",
  },
  limit: {
    title: "Limit this copy?",
    does: "It reads no faster than this, and slower where the load demands it. Leave the rate empty to lift the limit.",
    button: "Limit",
  },
  stop: {
    title: "Stop this copy?",
    does: "It lets go of the database and removes what it has stored. If the task has retries left, Airflow begins anew.",
    button: "Stop",
  },
};

/** Asks, gives the order, and calls `told(text)`; `rates` are the lowest and the highest allowed, as text. */
export function ask(dialog, action, { where, number, rates, told }) {
  const { title, does, button } = ORDERS[action];
  const opener = document.activeElement;
  const reason = element("input", { id: "reason", maxlength: 200, autocomplete: "off", placeholder: "launch at ten" });
  const rate = element("input", { id: "rate", maxlength: 40, autocomplete: "off", placeholder: rates[1] || "20MB/s" });
  const problem = element("p", { class: "problem", role: "alert", hidden: true });
  const go = element("button", { class: action === "stop" ? "danger" : "primary", type: "button" }, button);
  const cancel = element("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const waiting = element("p", { class: "quiet", role: "status", hidden: true }, "Waiting until the copy obeys…");

  async function give() {
    go.disabled = cancel.disabled = true;
    problem.hidden = true;
    waiting.hidden = false;
    try {
      const body = { action, number, reason: reason.value, rate: rate.value.trim() || null };
      const { dag_id, run_id, task_id, ...others } = where;
      const task = [dag_id, run_id, task_id].map(encodeURIComponent).join("/");
      const answer = await post(`task/${task}/order`, others, body);
      dialog.close();
      told(`${answer.order}. ${answer.text}`);
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    } finally {
      go.disabled = cancel.disabled = false;
      waiting.hidden = true;
    }
  }

  go.addEventListener("click", give);
  const entered = (event) => {
    if (event.key === "Enter") give();
  };
  reason.addEventListener("keydown", entered);
  rate.addEventListener("keydown", entered);
  replaceContent(
    dialog,
    element("h1", {}, title),
    element("p", {}, does),
    action === "limit" ? element("label", { for: "rate" }, `At most (${rates.join(" to ")})`) : null,
    action === "limit" ? rate : null,
    element("label", { for: "reason" }, "Why, for whoever looks later"),
    reason,
    problem,
    waiting,
    element("div", { class: "actions" }, cancel, go),
  );
  dialog.setAttribute("aria-label", title);
  dialog.addEventListener("close", () => opener && opener.focus(), { once: true });
  dialog.showModal();
}
