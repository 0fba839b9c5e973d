// What the page knows: the events shown, and the last status of each side. All of it is bounded.

import { observeServerTime, parseTime } from "/live/times.js";

/** Rows in the list of events. */
const MAX_ROWS = 60;
/** New rows in one rendering; the others are summed up in one. */
const MAX_NEW_ROWS = 10;
/** Events that were summed up, so that their later stages make no rows. */
const MAX_PASSED = 20_000;
/** After a feed has skipped events, later stages of unknown events make no rows for so long. */
const OVERLOAD = 10_000;

/** The feed tells a change within two seconds: what it said before still holds for an event seen so long ago. */
const TOLD_WITHIN = 2500;

const newSide = () => ({ connection: "connecting", fault: null, status: null });

export const outbox = newSide();
export const copySide = newSide();
export const rows = [];

const byId = new Map();
const passed = new Set();
let arrived = [];
let summedUp = 0;
let overloadedUntil = 0;

export function takeStatus(side, status) {
  if (side === outbox) observeServerTime(status.at);
  side.status = status;
}

export function takeConnection(side, connection, fault = null) {
  side.connection = connection;
  side.fault = fault;
  // What was said before the connection broke may have changed since.
  if (connection !== "open") side.status = null;
}

/** What is known of a side now: null while its feed is away. */
export const current = (side) => (side.connection === "open" ? side.status : null);

export function takeWritten({ events, skipped }) {
  noteSkipped(skipped);
  summedUp += skipped;
  for (const event of events) {
    const row = known(event) ?? arrive(event);
    row.outboxId = event.outbox_id;
    row.eventType = event.event_type;
    row.writtenAt = parseTime(event.written_at);
  }
}

/** Returns what was measured, in milliseconds. */
export function takePublished({ events, skipped }) {
  noteSkipped(skipped);
  return events.map((event) => {
    const row = knownOrLate(event);
    row.stream = event.stream;
    row.sequence = event.sequence;
    row.writtenAt ??= parseTime(event.written_at);
    row.publishedAt = parseTime(event.published_at);
    return { publish: elapsed(row.writtenAt, row.publishedAt) };
  });
}

export function takeApplied({ events, skipped }) {
  noteSkipped(skipped);
  return events.filter((event) => event.event_id !== null).map((event) => {
    const row = knownOrLate(event);
    // Delivered again after it was applied: that it took effect is what counts.
    if (row.outcome === "applied") return {};
    row.sequence ??= event.sequence;
    row.publishedAt ??= parseTime(event.published_at);
    row.deliveredAt = parseTime(event.delivered_at);
    row.appliedAt = parseTime(event.applied_at);
    row.outcome = event.outcome;
    row.deliveries = event.deliveries;
    if (event.outcome !== "applied") return {};
    return {
      apply: elapsed(row.publishedAt, row.appliedAt),
      total: elapsed(row.writtenAt, row.appliedAt),
    };
  });
}

const elapsed = (from, to) => (from === null || to === null ? null : to - from);

/** The feed fell behind, and has left events out. */
export const takeReset = () => noteSkipped(1);

function noteSkipped(skipped) {
  if (skipped > 0) overloadedUntil = performance.now() + OVERLOAD;
}

const known = (event) => byId.get(event.event_id);

/** The row of an event whose beginning was not seen; one that is not shown if there are too many. */
function knownOrLate(event) {
  const row = known(event);
  if (row) return row;
  const isTooMuch = passed.has(event.event_id) || performance.now() < overloadedUntil;
  return isTooMuch ? newRow(event) : arrive(event);
}

function newRow(event) {
  return {
    id: event.event_id,
    aggregateType: event.aggregate_type ?? "user",
    aggregateId: event.aggregate_id,
    version: event.version,
    seenAt: performance.now(),
    outboxId: null,
    eventType: null,
    writtenAt: null,
    stream: null,
    sequence: null,
    publishedAt: null,
    deliveredAt: null,
    appliedAt: null,
    outcome: null,
    deliveries: 0,
    parked: false,
  };
}

function arrive(event) {
  const row = newRow(event);
  byId.set(row.id, row);
  arrived.push(row);
  // Between two renderings, as in a tab that nobody looks at.
  if (arrived.length > 2 * MAX_ROWS) arrived.splice(0, MAX_ROWS).forEach(sumUp);
  return row;
}

function sumUp(row) {
  summedUp += 1;
  byId.delete(row.id);
  passed.add(row.id);
  if (passed.size > MAX_PASSED) passed.delete(passed.values().next().value);
}

export function markParked(eventIds) {
  for (const row of byId.values()) row.parked = eventIds.has(row.id);
}

/** How many events wait to be shown. */
export const waitingToBeShown = () => arrived.length + summedUp;

/** Moves what has arrived into the rows, newest first: at most ten, the rest as one sum. */
export function showArrived() {
  if (waitingToBeShown() === 0) return;
  arrived.splice(0, Math.max(0, arrived.length - MAX_NEW_ROWS)).forEach(sumUp);
  if (summedUp > 0) {
    const newest = rows[0];
    // Sums that follow each other are one.
    if (newest?.sum && arrived.length === 0) newest.sum += summedUp;
    else rows.unshift({ id: `sum-${performance.now()}`, sum: summedUp, seenAt: performance.now() });
  }
  rows.unshift(...arrived.reverse());
  arrived = [];
  summedUp = 0;
  for (const row of rows.splice(MAX_ROWS)) byId.delete(row.id);
}

/** Whether an event is in the list, and the copy has not applied it. */
export const hasNotArrived = (id) => byId.has(id) && placeOf(byId.get(id)) !== "copy";

/** Where an event is: "outbox", "parked", "stream" or "copy". Events that passed unseen are told by
 * what has been said about all. */
export function placeOf(row) {
  if (row.appliedAt !== null) return "copy";
  if (row.parked) return "parked";
  const isPublished = row.publishedAt !== null || row.sequence !== null;
  if (!isPublished && !hasLeftOutbox(row)) return "outbox";
  const floor = current(copySide)?.ack_floor ?? -1;
  return row.sequence !== null && floor >= row.sequence ? "copy" : "stream";
}

function hasLeftOutbox(row) {
  const status = current(outbox);
  const streams = status?.streams ?? [];
  const isKnown = status?.postgres === "ok" && streams.length > 0 && performance.now() > row.seenAt + TOLD_WITHIN;
  return isKnown && streams.every((stream) => stream.pending === 0);
}
