// The list of events: a row each, which fills from left to right.

import { byId, count, el, setData, setText } from "/live/dom.js";
import { current, outbox, placeOf, rows } from "/live/state.js";
import { formatDuration, formatStep, formatTime, serverNow } from "/live/times.js";

const VERBS = { created: "created", updated: "changed", deleted: "deleted" };
/** From here on a wait is worth a colour. */
const LONG_WAIT = 5000;

const body = byId("event-rows");
const nodes = new Map();

/** `select` is called with the id of an event that was chosen. */
export function listenForSelection(select) {
  body.addEventListener("click", (event) => {
    const id = event.target.closest("tr")?.dataset.event;
    if (id) select(id);
  });
}

/** A row that is focused or pressed must not move away. */
export const isInUse = () => body.contains(document.activeElement);

export function renderEvents() {
  byId("events-empty").hidden = rows.length > 0;
  const wanted = new Set(rows.map((row) => row.id));
  for (const [id, node] of nodes) {
    if (!wanted.has(id)) {
      node.tr.remove();
      nodes.delete(id);
    }
  }
  // Existing rows keep their order, so only new ones are inserted.
  let before = body.firstChild;
  for (const row of rows) {
    let node = nodes.get(row.id);
    if (!node) {
      node = row.sum ? newSum() : newNode(row);
      nodes.set(row.id, node);
    }
    if (node.tr === before) before = before.nextSibling;
    else body.insertBefore(node.tr, before);
    if (row.sum) setText(node.text, `+${count(row.sum)} more events`);
    else update(node, row);
  }
}

function newSum() {
  const text = el("td", { colSpan: 4 });
  return { tr: el("tr", { className: "sum" }, text), text };
}

function newNode(row) {
  const what = el("span", { className: "what" });
  const version = el("span", { className: "version" });
  const button = el("button", { type: "button", className: "event" }, what, version);
  const cells = ["outbox", "stream", "copy"].map(() => newCell());
  const tr = el("tr", {}, el("td", {}, button), ...cells.map((cell) => cell.td));
  tr.dataset.event = row.id;
  return { tr, what, version, cells };
}

function newCell() {
  const main = el("span", { className: "main" });
  const step = el("span", { className: "step" });
  const bar = el("span", { className: "bar", ariaHidden: "true" });
  return { td: el("td", {}, main, step, bar), main, step, bar };
}

function update(node, row) {
  // What has arrived changes no more, unless it is delivered again.
  const isWhole = row.eventType !== null && row.publishedAt !== null && row.appliedAt !== null;
  const settled = isWhole ? `${row.outcome} ${row.deliveries}` : null;
  if (settled !== null && node.settled === settled) return;
  node.settled = settled;
  const place = placeOf(row);
  const [inOutbox, inStream, inCopy] = node.cells;
  setText(node.what, `${row.aggregateType} ${row.aggregateId} ${verb(row.eventType)}`);
  setText(node.version, row.version === null ? "" : `v${row.version}`);
  setData(node.tr, "place", place);
  const wait = row.writtenAt === null ? 0 : serverNow() - row.writtenAt;
  fill(inOutbox, place === "outbox" || place === "parked" ? "here" : "passed", formatTime(row.writtenAt),
    place === "parked" ? "parked" : place === "outbox" ? waited(wait) : "");
  setData(inOutbox.td, "late", String(place === "parked" || (place === "outbox" && wait > LONG_WAIT)));
  if (place === "outbox" || place === "parked") {
    fill(inStream, "ahead", "", "");
    fill(inCopy, "ahead", "", "");
    return;
  }
  const publish = formatStep(row.writtenAt, row.publishedAt);
  fill(inStream, place === "stream" ? "here" : "passed", row.sequence === null ? "left the outbox" : `#${row.sequence}`, publish ?? "not seen");
  measure(inStream.bar, row.writtenAt, row.publishedAt);
  if (place === "stream" && row.outcome === null) {
    fill(inCopy, "ahead", "", "");
    return;
  }
  const apply = formatStep(row.publishedAt, row.appliedAt);
  fill(inCopy, "here", outcome(row), apply ?? "not seen");
  measure(inCopy.bar, row.publishedAt, row.appliedAt);
  setData(inCopy.td, "late", String(row.outcome === "dead_lettered" || row.outcome === "retried"));
}

function fill(cell, state, main, step) {
  setData(cell.td, "state", state);
  setText(cell.main, main);
  setText(cell.step, step);
}

/** From 1 ms (nothing) to 10 s (full), by the logarithm. */
function measure(bar, from, to) {
  const ms = from === null || to === null ? 0 : to - from;
  const share = Math.min(1, Math.max(0, Math.log10(Math.max(ms, 1)) / 4));
  bar.style.setProperty("--share", share.toFixed(2));
}

const waited = (ms) => (ms < 1000 ? "waiting" : `waiting ${formatDuration(Math.floor(ms / 1000) * 1000).replace(/\.0+ /, " ")}`);

function verb(eventType) {
  if (!eventType) return "";
  const last = eventType.split(/[._]/).pop();
  return VERBS[last] ?? eventType;
}

export function outcome(row) {
  const again = row.deliveries > 1 ? `, delivery ${row.deliveries}` : "";
  switch (row.outcome) {
    case "applied": return `applied${again}`;
    case "stale": return `older than the copy${again}`;
    case "superseded": return `covered by a newer one${again}`;
    case "retried": return `failed, comes again${again}`;
    case "dead_lettered": return "dead letter";
    default: return "applied elsewhere";
  }
}

/** Whether any row shows a time that goes on. */
export const hasWaiting = () => current(outbox) !== null && rows.some((row) => !row.sum && row.appliedAt === null);
