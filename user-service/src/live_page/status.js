// Figures and health of the four places, and one sentence that says how things are.

import { copy } from "/live/access.js";
import { byId, count, el, plural, setData, setText } from "/live/dom.js";
import { copySide, current, outbox } from "/live/state.js";
import { clockDifference, formatDuration, parseTime, serverNow, zone } from "/live/times.js";

/** What is older than this waits for too long. */
const LATE = 10_000;

/** How far the service counts what is pending. */
const MAX_COUNTED = 10_000;

const UNKNOWN = "–";

export function renderStatus(measured) {
  const near = current(outbox);
  const far = current(copySide);
  renderConnections();
  renderFigures(near, far, measured);
  renderHealth("stage-row", "health-postgres", near && near.postgres);
  renderHealth("stage-stream", "health-nats", near && near.nats);
  renderHealth("stage-copy", "health-mongodb", far && far.mongodb);
  setData(byId("stage-outbox"), "health", near ? "ok" : reach(outbox));
  if (!far) setData(byId("stage-copy"), "health", reach(copySide));
  renderVerdict(near, far);
  renderNotes();
}

function renderConnections() {
  const list = byId("connections");
  const wanted = [["Users", outbox.connection], ["Copy", copy.base === null ? "off" : copySide.connection]];
  const words = { open: "live", connecting: "connecting", lost: "unreachable, retrying", failing: "answers with an error, retrying", refused: "needs a token", off: "left out" };
  if (list.children.length === 0) list.append(...wanted.map(() => el("li")));
  wanted.forEach(([name, connection], index) => {
    const item = list.children[index];
    setData(item, "state", connection);
    setText(item, `${name}: ${words[connection]}`);
  });
}

function renderFigures(near, far, measured) {
  const streams = near?.streams ?? [];
  const sum = (field) => streams.reduce((total, stream) => total + (stream[field] ?? 0), 0);
  const set = (id, text) => setText(byId(id), text);
  set("figure-writes", near ? rate(measured.writes) : UNKNOWN);
  set("figure-pending", near && streams.length > 0 ? countPending(near) : UNKNOWN);
  setData(byId("figure-pending"), "level", near && oldestAge(near) > LATE ? "warn" : "ok");
  set("figure-oldest", near ? (sum("pending") > 0 ? age(oldestAge(near)) : "none") : UNKNOWN);
  set("figure-parked", near ? count(near.parked) : UNKNOWN);
  setData(byId("figure-parked"), "level", near?.parked > 0 ? "bad" : "ok");
  set("figure-relay", near ? relayText(near.relay) : UNKNOWN);
  set("figure-epoch", String(near?.relay?.epoch ?? UNKNOWN));
  byId("figure-relay").title = near?.relay?.owner ?? "";
  setData(byId("figure-relay"), "level", near?.relay && !near.relay.active ? "bad" : "ok");
  const knowsStream = near?.nats === "ok" && streams.length > 0;
  const last = streams.map((stream) => stream.last_sequence ?? stream.sequence);
  set("figure-sequence", knowsStream ? last.map(count).join(" · ") : UNKNOWN);
  set("figure-incarnation", streams.length > 0 ? streams.map((stream) => stream.incarnation ?? UNKNOWN).join(" · ") : UNKNOWN);
  set("figure-publish", measured.publish === null ? UNKNOWN : formatDuration(measured.publish));
  set("figure-apply", measured.apply === null ? UNKNOWN : formatDuration(measured.apply));
  set("figure-lag", far && far.lag_ms !== null ? (far.lag_ms === 0 ? "none" : formatDuration(far.lag_ms)) : UNKNOWN);
  setData(byId("figure-lag"), "level", far?.lag_ms > LATE ? "warn" : "ok");
  set("figure-redelivered", far ? count(far.redelivered) : UNKNOWN);
  set("figure-dead-letters", far ? count(far.dead_letters) : UNKNOWN);
  setData(byId("figure-dead-letters"), "level", far?.dead_letters > 0 ? "bad" : "ok");
}

function renderHealth(stage, figure, health) {
  const words = { ok: "available", unavailable: "unavailable" };
  setText(byId(figure), words[health] ?? UNKNOWN);
  setData(byId(figure), "level", health === "unavailable" ? "bad" : "ok");
  setData(byId(stage), "health", health ?? "unknown");
}

const reach = (side) => (side.connection === "lost" ? "unavailable" : "unknown");

/** The service counts up to a bound, and says one more if there are more. */
function countPending(status) {
  const isMore = status.streams.some((stream) => stream.pending > MAX_COUNTED);
  const total = status.streams.reduce((sum, stream) => sum + Math.min(stream.pending, MAX_COUNTED), 0);
  return isMore ? `${count(total)}+` : count(total);
}

const relayText = (relay) =>
  !relay ? UNKNOWN : relay.active ? shortOwner(relay.owner) : "none";

/** The end of a long name tells instances apart. */
const shortOwner = (owner) => (!owner ? "active" : owner.length > 14 ? `…${owner.slice(-8)}` : owner);

const rate = (perSecond) => (perSecond > 0 && perSecond < 10 ? perSecond.toFixed(1) : count(Math.round(perSecond)));

/** In whole seconds: what goes on is not measured to the millisecond. */
const age = (ms) => (ms < 1000 ? "< 1 s" : formatDuration(Math.floor(ms / 1000) * 1000).replace(/\.0+ /, " "));

function oldestAge(status) {
  const times = status.streams.map((stream) => parseTime(stream.oldest_pending_at)).filter((time) => time !== null);
  return times.length > 0 ? Math.max(0, serverNow() - Math.min(...times)) : 0;
}

const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

/** What is wrong, the worst first: a key, a level and a sentence each. */
function findings(near, far) {
  const found = [];
  const add = (when, level, key, text) => when && found.push({ level, key, text });
  const pending = near ? countPending(near) : UNKNOWN;
  add(outbox.connection === "refused", "bad", "users-token", "The user service needs a token to show its outbox.");
  add(outbox.connection === "lost", "bad", "users-away", "The user service cannot be reached. What is shown below is from before.");
  add(outbox.connection === "failing", "bad", "users-failing", `The user service answers ${sentence(outbox.fault)} What is shown below is from before.`);
  add(near?.postgres === "unavailable", "bad", "postgres", "Postgres is unavailable: nothing can be written.");
  add(near?.nats === "unavailable", "bad", "nats", `NATS is unavailable: writes go on, and their events wait in the outbox (${pending}).`);
  add(near?.postgres === "ok" && near.nats === "ok" && near.relay && !near.relay.active, "bad", "relay", `No relay is active: events wait in the outbox (${pending}).`);
  if (copy.base !== null) {
    add(copySide.connection === "refused", "bad", "copy-token", "The notification service needs a token to show its copy.");
    add(copySide.connection === "lost", "bad", "copy-away", "The notification service cannot be reached. Writes and publishing go on; the copy catches up when it is back.");
    add(copySide.connection === "failing", "bad", "copy-failing", `The notification service answers ${sentence(copySide.fault)} Its figures are not known meanwhile.`);
    add(far?.mongodb === "unavailable", "bad", "mongodb", "MongoDB is unavailable: events wait in the stream until it is back.");
    add(far?.nats === "unavailable" && near?.nats === "ok", "bad", "copy-nats", "The notification service has no connection to NATS.");
  }
  add(near?.parked > 0, "bad", "parked", `${plural(near?.parked, "event is", "events are")} parked: ${near?.parked === 1 ? "it" : "they"} could not be published.`);
  add(far?.dead_letters > 0, "bad", "dead-letters", `${plural(far?.dead_letters, "event", "events")} could not be applied and became ${far?.dead_letters === 1 ? "a dead letter" : "dead letters"}.`);
  add(far?.holes > 0, "warn", "holes", `${plural(far?.holes, "event", "events")} left the stream before the copy had ${far?.holes === 1 ? "it" : "them"}.`);
  add(far?.differences > 0, "warn", "differences", `The last comparison found ${plural(far?.differences, "difference", "differences")} between users and copy.`);
  add(near && near.nats === "ok" && oldestAge(near) > LATE, "warn", "late", `The oldest event has waited in the outbox for ${age(oldestAge(near ?? { streams: [] }))}.`);
  add(far?.lag_ms > LATE, "warn", "lag", `The copy is ${formatDuration(far?.lag_ms)} behind.`);
  return found;
}

let announced = "";

function renderVerdict(near, far) {
  const found = findings(near, far);
  const isComplete = near && (far || copy.base === null);
  const level = found[0]?.level ?? (isComplete ? "ok" : "unknown");
  const headline = found[0]?.text ?? (isComplete ? allIsWell(near, far) : "Connecting.");
  setData(byId("verdict"), "level", level);
  setText(byId("verdict-headline"), headline);
  const more = byId("verdict-more");
  const rest = found.slice(1);
  while (more.children.length > rest.length) more.lastChild.remove();
  while (more.children.length < rest.length) more.append(el("li"));
  rest.forEach((finding, index) => setText(more.children[index], finding.text));
  // Spoken when something begins or ends, not whenever a count changes.
  const keys = level === "unknown" ? announced : found.map((finding) => finding.key).join() || "ok";
  if (keys !== announced) {
    announced = keys;
    setText(byId("verdict-announcement"), found.map((finding) => finding.text).join(" ") || headline);
  }
}

function allIsWell(near, far) {
  if (!far) return "All is well: events are published as they are written.";
  return "All is well: what is written reaches the copy.";
}

function renderNotes() {
  const difference = clockDifference();
  const clocks = "Whose clock: written, Postgres; published, NATS; delivered and applied, the notification service; waiting, the user service.";
  setText(byId("clock-note"), difference === 0 ? clocks
    : `${clocks} These clocks differ by at least ${formatDuration(difference)}: a step that would come out negative is shown as ≈ 0 ms.`);
  setText(byId("zone-note"), `Times of day are in ${zone()}.`);
}
