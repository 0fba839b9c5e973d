// What became of one event: asked of both services, again until it has arrived.

import { copy, problem, request, users } from "/live/access.js";
import { byId, el, setText } from "/live/dom.js";
import { outcome } from "/live/events.js";
import { hasNotArrived } from "/live/state.js";
import { formatDuration, formatStep, formatTime, parseTime } from "/live/times.js";

/** Pauses double up to the longest: a look searches a ledger and a stream. */
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 15_000;
const MAX_LOOKS = 40;
/** The copy is asked by then, even if its feed has not said that the event is there. */
const LOOKS_WITHOUT_COPY = 4;
/** The outbox sends nothing more of these. */
const SETTLED = ["parked", "superseded"];
const FINISHED = ["applied", "stale", "superseded", "dead_lettered"];

let shown = 0;

export function startJourney() {
  byId("journey-form").addEventListener("submit", (event) => {
    event.preventDefault();
    showJourney(byId("journey-id").value.trim());
  });
}

/** Follows one event; another call ends it. */
export async function showJourney(id) {
  const turn = (shown += 1);
  const isCurrent = () => turn === shown;
  byId("journey-id").value = id;
  byId("journey-steps").replaceChildren();
  if (id === "") return say("Enter the id of an event, such as one that a log names.");
  say("Looking it up.");
  let pause = FIRST_PAUSE;
  for (let look = 0; look < MAX_LOOKS && isCurrent(); look += 1) {
    const near = await ask(users, `/outbox/events/${encodeURIComponent(id)}`);
    const far = await askCopy(id, near, look);
    if (!isCurrent()) return;
    if (near.fault && far.fault && near.isMissing) return say(near.fault);
    render(near, far);
    if (FINISHED.includes(far.found?.outcome)) return;
    if (SETTLED.includes(near.found?.state) && far.found?.outcome !== "retried") return;
    if (copy.base === null && near.found?.state === "published") return;
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
  if (isCurrent()) say(`${byId("journey-result").textContent} · no longer followed: look it up again`);
}

/** The copy is hardly asked in vain: it cannot have what has not been published. */
async function askCopy(id, near, look) {
  if (copy.base === null) return { fault: "This page was set to leave the copy out." };
  const state = near.found?.state;
  if (state === "superseded") return { fault: "never" };
  const isOnItsWay = state === "pending" || state === "parked" || (look < LOOKS_WITHOUT_COPY && hasNotArrived(id));
  return isOnItsWay ? { fault: "not yet" } : ask(copy, `/consumer/events/${encodeURIComponent(id)}`);
}

async function ask(service, path) {
  try {
    const response = await request(service, path);
    if (response.ok) return { found: await response.json() };
    return { fault: (await problem(response)).text, isMissing: response.status === 404 };
  } catch {
    return { fault: `The ${service.name} cannot be reached.` };
  }
}

const say = (text) => setText(byId("journey-result"), text);

function render({ found: near, fault: nearFault }, { found: far, fault: farFault, isMissing }) {
  const written = parseTime(near?.written_at);
  const published = parseTime(near?.published_at ?? far?.published_at);
  const delivered = parseTime(far?.delivered_at);
  const applied = parseTime(far?.applied_at);
  const sequence = near?.sequence ?? far?.sequence ?? null;
  const version = near?.version ?? far?.version;
  say([
    near?.event_type ?? "event",
    `of ${near?.aggregate_type ?? "user"} ${near?.aggregate_id ?? far?.aggregate_id}`,
    version === null || version === undefined ? "" : `version ${version}`,
    written !== null && applied !== null ? `· ${total(written, applied)}` : "",
  ].filter(Boolean).join(" "));
  byId("journey-steps").replaceChildren(
    step("Written", written, null, "Postgres’s clock", near ? `outbox row ${near.outbox_id ?? "unknown"}` : nearFault),
    step(publishTitle(near, sequence), published, written, "NATS’s clock", publishNote(near, published)),
    step("Delivered", delivered, published, "notification service’s clock", deliveryNote(far, farFault, isMissing, published)),
    step(far ? capital(outcome(far)) : "Applied", applied, delivered, "notification service’s clock", ""),
  );
}

function total(written, applied) {
  return applied >= written ? `${formatDuration(applied - written)} from the row to the copy` : "from the row to the copy: ≈ 0 ms, since the clocks differ";
}

function publishTitle(near, sequence) {
  if (near?.state === "parked") return "Parked";
  if (near?.state === "superseded") return "Superseded";
  return sequence === null ? "Published" : `Published as sequence ${sequence}`;
}

function publishNote(near, published) {
  if (near?.parked) return `${near.parked.reason} · ${formatTime(parseTime(near.parked.parked_at))}`;
  if (published !== null) return near?.stream ? `stream ${near.stream}` : "";
  const notes = {
    pending: "not yet: it waits in the outbox",
    superseded: "never: a newer event of the same aggregate took its place",
    unknown: "the relay is done with it, but it was not found on its stream, or the stream could not be asked",
  };
  return notes[near?.state] ?? "";
}

function deliveryNote(far, fault, isMissing, published) {
  if (far) return far.deliveries > 1 ? `delivery ${far.deliveries}` : "at the first delivery";
  if (!isMissing) return fault;
  return published === null ? "not yet" : "not yet, or not by this instance of the notification service lately";
}

function step(title, at, before, clock, note) {
  const delta = at === null ? "" : formatStep(before, at) ?? "";
  const time = at === null ? "" : formatTime(at);
  const item = el("li", {},
    el("h3", {}, title),
    el("p", { className: "when" }, el("span", { className: "time" }, time), el("span", { className: "step" }, delta)),
    el("p", { className: "note" }, [note, at === null ? "" : clock].filter(Boolean).join(" · ")));
  item.dataset.state = at === null ? "ahead" : "passed";
  if (title === "Parked" || title.startsWith("Dead")) item.dataset.state = "failed";
  return item;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
