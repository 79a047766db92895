// What the pages share. Text from the server becomes text, never markup: only `element` makes nodes.

/** A node: `element("td", { class: "number", title: "…" }, "text", otherNode)`; `on…` are listeners. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** The address of a page about a plan, or of the pages about all of them. */
export const address = (page, plan) => `${page}?${new URLSearchParams({ name: plan.name, repository: plan.repository })}`;

export function replaceContent(node, ...children) {
  node.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

/** Shows it anew: the focus stays where it was, and nothing happens while somebody selects text there. */
export function redraw(node, ...children) {
  const selection = getSelection();
  if (!selection.isCollapsed && node.contains(selection.anchorNode)) return;
  const stops = () => [...node.querySelectorAll("a[href], button, [tabindex='0']")];
  const before = stops();
  const at = before.indexOf(document.activeElement);
  const text = before[at]?.textContent;
  replaceContent(node, ...children);
  const after = stops();
  const same = after[at]?.textContent === text ? after[at] : after.find((one) => one.textContent === text);
  if (at >= 0) same?.focus({ preventScroll: true });
}

async function answer(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    // Told below by its status.
  }
  if (response.ok && body !== null) return body;
  const detail = body && typeof body.detail === "string" ? body.detail : `${response.status} ${response.statusText}`;
  const said = { 401: "You are not logged in any more. Reload Airflow to log in.", 403: "You may not see this." };
  throw new Error(said[response.status] || detail);
}

/** JSON of `api/<path>`; throws an Error whose message is for people. */
export async function get(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  return answer(await fetch(`api/${path}${query ? `?${query}` : ""}`, { headers: { Accept: "application/json" } }));
}

export async function post(path, parameters, body) {
  return answer(
    await fetch(`api/${path}?${new URLSearchParams(parameters)}`, {
      method: "POST",
      headers: { Accept: "application/json", "Content-Type": "application/json" },
      body: JSON.stringify(body),
    }),
  );
}

export const parameters = new URLSearchParams(location.search);

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "unknown";
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? value.toFixed(0) : value.toPrecision(3)} ${UNITS[unit]}`;
}

export const rate = (bytes) => (bytes === null || bytes === undefined ? "unknown" : `${size(bytes)}/s`);

export const milliseconds = (seconds) =>
  seconds === null || seconds === undefined ? "not measured" : `${(seconds * 1000).toPrecision(3)} ms`;

/** `3 min`, `2 h 5 min`, `4 d 2 h`. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0 s";
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(" ");
}

/** A moment as this browser's clock shows it, its zone named. */
export function moment(value) {
  const date = typeof value === "number" ? new Date(value * 1000) : new Date(value);
  if (Number.isNaN(date.getTime())) return String(value);
  return date.toLocaleString(undefined, {
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
    timeZoneName: "short",
  });
}

export const clock = (value) =>
  new Date(typeof value === "number" ? value * 1000 : value).toLocaleTimeString(undefined, {
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  });

/** Calls `look` now and every `seconds`, not while the page is hidden, until it returns false. */
export function poll(seconds, look) {
  let timer = null;
  let ended = false;
  async function once() {
    timer = null;
    if (!document.hidden) ended = (await look()) === false;
    if (!ended) timer = setTimeout(once, seconds * 1000);
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !ended && timer !== null) {
      clearTimeout(timer);
      once();
    }
  });
  once();
}
