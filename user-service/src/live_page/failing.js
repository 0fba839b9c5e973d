// Parked events and dead letters: what they failed of, and retrying or discarding many at once.

import { copy, forbidden, onRights, problem, request, send, users } from "/live/access.js";
import { byId, count, el, enable, plural, setText } from "/live/dom.js";
import { markParked } from "/live/state.js";
import { formatTime, parseTime } from "/live/times.js";

const PAGE = 100;
/** Requests at once, where many items are selected. */
const AT_ONCE = 4;
/** Lists with items are read again after so long, even if no figure has changed. */
const REFRESH = 15_000;
/** How long the outcome of an action is shown. */
const TOLD = 30_000;

const KINDS = {
  parked: {
    service: users,
    name: "parked event",
    path: `/outbox/parked?limit=${PAGE}`,
    one: (id) => `/outbox/parked/${id}`,
    read: (it) => ({
      id: it.outbox_id ?? it.id,
      eventId: it.event_id,
      event: `${it.aggregate_type} ${it.aggregate_id}${it.version ? ` v${it.version}` : ""}`,
      reason: it.attempts ? `${it.reason} (${plural(it.attempts, "attempt", "attempts")})` : it.reason,
      since: it.parked_at,
    }),
  },
  letter: {
    service: copy,
    name: "dead letter",
    path: `/dead-letters?limit=${PAGE}`,
    one: (id) => `/dead-letters/${id}`,
    read: (it) => ({
      id: it.sequence,
      eventId: it.event_id ?? null,
      event: it.stream_sequence === null ? it.stream : `${it.stream} #${it.stream_sequence}`,
      reason: String(it.reason).replaceAll("_", " "),
      since: it.set_aside_at,
    }),
  },
};

const items = { parked: [], letter: [] };
const totals = { parked: 0, letter: 0 };
/** Reads that have begun, and the latest that is out of date: what it finds is from before. */
const begun = { parked: 0, letter: 0 };
const outdated = { parked: 0, letter: 0 };
const selected = new Set();
let isBusy = false;
let forgetting;
let select = () => {};

export function startFailing(selectEvent) {
  select = selectEvent;
  byId("failing-all").addEventListener("change", ({ target }) => {
    const keys = all().map((item) => item.key);
    selected.clear();
    if (target.checked) keys.forEach((key) => selected.add(key));
    render();
  });
  byId("failing-rows").addEventListener("change", ({ target }) => {
    if (target.checked) selected.add(target.value);
    else selected.delete(target.value);
    render();
  });
  byId("failing-rows").addEventListener("click", ({ target }) => {
    const id = target.closest("button")?.dataset.event;
    if (id) select(id);
  });
  byId("failing-retry").addEventListener("click", () => act("POST", "/retry", "retried"));
  byId("failing-discard").addEventListener("click", discard);
  onRights(render);
  setInterval(() => notEmpty().forEach(read), REFRESH);
}

const notEmpty = () => Object.keys(KINDS).filter((kind) => totals[kind] + items[kind].length > 0);

/** Reads a list if its count says that it changed; null means that the count is not known. */
export function expect(kind, total) {
  if (total === null || total === undefined) return;
  const changed = total !== totals[kind];
  totals[kind] = total;
  if (changed) read(kind);
}

async function read(kind) {
  if (isBusy) return;
  const { service, path, read: parse } = KINDS[kind];
  const mine = (begun[kind] += 1);
  try {
    const response = await request(service, path);
    if (!response.ok) return;
    const found = await response.json();
    if (mine <= outdated[kind]) return;
    outdated[kind] = mine;
    items[kind] = found.map((it) => ({ ...parse(it), kind, key: `${kind} ${parse(it).id}` }));
    if (kind === "parked") markParked(new Set(items.parked.map((item) => item.eventId)));
    render();
  } catch {
    // The feed says that the service is away; the list stays as it was.
  }
}

const all = () => [...items.parked, ...items.letter];

const chosen = () => all().filter((item) => selected.has(item.key));

function render() {
  const listed = all();
  const known = new Set(listed.map((item) => item.key));
  for (const key of selected) if (!known.has(key)) selected.delete(key);
  byId("failing").hidden = listed.length === 0 && byId("failing-result").textContent === "";
  renderRows(listed);
  const more = totals.parked + totals.letter - listed.length;
  setText(byId("failing-note"), more > 0 ? `The oldest ${count(listed.length)} are listed, ${count(more)} more follow.` : "They hold up nothing else. Retry what can succeed now; discard what never will.");
  byId("failing-all").checked = listed.length > 0 && selected.size === listed.length;
  byId("failing-all").indeterminate = selected.size > 0 && selected.size < listed.length;
  renderActions();
}

function renderRows(listed) {
  const body = byId("failing-rows");
  const wanted = new Set(listed.map((item) => item.key));
  const there = new Map([...body.children].map((tr) => [tr.dataset.key, tr]));
  for (const [key, tr] of there) if (!wanted.has(key)) tr.remove();
  listed.forEach((item, index) => {
    const tr = there.get(item.key) ?? newRow(item);
    if (body.children[index] !== tr) body.insertBefore(tr, body.children[index] ?? null);
    tr.querySelector("input").checked = selected.has(item.key);
  });
}

function newRow(item) {
  const { name } = KINDS[item.kind];
  const box = el("input", { type: "checkbox", value: item.key, "aria-label": `Select ${name} ${item.id}` });
  const event = item.eventId ? el("button", { type: "button", className: "link" }, item.event) : item.event;
  if (item.eventId) event.dataset.event = item.eventId;
  const tr = el("tr", {},
    el("td", {}, box),
    el("td", {}, `${name} ${item.id}`),
    el("td", {}, event),
    el("td", { className: "reason" }, el("span", { dir: "auto", title: item.reason }, item.reason)),
    el("td", { className: "time" }, formatTime(parseTime(item.since))));
  tr.dataset.key = item.key;
  return tr;
}

function renderActions() {
  const some = chosen();
  const services = new Set((some.length > 0 ? some : all()).map((item) => KINDS[item.kind].service));
  const why = [...services].map((service) => forbidden(service, "repair")).filter(Boolean).join(" ");
  const isPossible = why === "" && some.length > 0 && !isBusy;
  enable(byId("failing-retry"), isPossible);
  enable(byId("failing-discard"), isPossible);
  setText(byId("failing-retry"), some.length > 0 ? `Retry ${count(some.length)}` : "Retry");
  setText(byId("failing-discard"), some.length > 0 ? `Discard ${count(some.length)}…` : "Discard…");
  setText(byId("failing-rights"), why || (some.length === 0 && !isBusy ? "Select items first." : ""));
}

function discard() {
  const dialog = byId("confirm-dialog");
  const what = plural(chosen().length, "item", "items");
  setText(byId("confirm-title"), `Discard ${what}?`);
  setText(byId("confirm-text"), "What is discarded never reaches the copy, and cannot be brought back.");
  setText(byId("confirm-yes"), `Discard ${what}`);
  dialog.returnValue = "";
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "yes") act("DELETE", "", "discarded");
  }, { once: true });
  dialog.showModal();
}

/** Some at a time; what fails stays selected, and the first reason is told. */
async function act(method, suffix, done) {
  const queue = chosen();
  const asked = queue.length;
  const faults = [];
  isBusy = true;
  renderActions();
  const work = async () => {
    for (let item = queue.shift(); item; item = queue.shift()) {
      const fault = await actOn(item, method, suffix);
      if (fault) faults.push(fault);
      else selected.delete(item.key);
      setText(byId("failing-result"), `${count(asked - queue.length)} of ${count(asked)}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  isBusy = false;
  Object.assign(outdated, begun);
  const told = `${plural(asked - faults.length, "item was", "items were")} ${done}.`;
  setText(byId("failing-result"), faults.length === 0 ? told : `${told} ${plural(faults.length, "item was", "items were")} not: ${faults[0]}`);
  clearTimeout(forgetting);
  forgetting = setTimeout(() => {
    setText(byId("failing-result"), "");
    render();
  }, TOLD);
  await Promise.all(notEmpty().map(read));
  render();
}

async function actOn({ kind, id }, method, suffix) {
  const { service, one } = KINDS[kind];
  try {
    const response = await send(service, method, one(id) + suffix);
    return response.ok || response.status === 404 ? null : (await problem(response)).text;
  } catch {
    return `the ${service.name} did not answer`;
  }
}
