// Connects the parts of the page.

import { changeTokens, configure, copy, learnRights, onToken, users } from "/live/access.js";
import { addSamples, addWrites, recent, renderChart } from "/live/chart.js";
import { byId, count, setText } from "/live/dom.js";
import { hasWaiting, isInUse, listenForSelection, renderEvents } from "/live/events.js";
import { expect, startFailing } from "/live/failing.js";
import { follow, reconnectNow } from "/live/feeds.js";
import { noticeWritten, startForm } from "/live/form.js";
import { showJourney, startJourney } from "/live/journey.js";
import * as state from "/live/state.js";
import { renderStatus } from "/live/status.js";

/** The list moves at most twice a second, so that it can be read. */
const LIST_PAUSE = 500;
const CHART_PAUSE = 1000;
/** More new events at once are not animated. */
const FEW = 4;

let isPaused = false;
let isWanted = false;
let listedAt = -Infinity;
let drawnAt = -Infinity;

/** At most one rendering per frame, however many events come. */
function render() {
  if (isWanted) return;
  isWanted = true;
  requestAnimationFrame((now) => {
    isWanted = false;
    renderStatus(recent());
    if (!isPaused && !isInUse() && (state.waitingToBeShown() <= 2 || now - listedAt > LIST_PAUSE)) {
      listedAt = now;
      byId("events").dataset.busy = String(state.waitingToBeShown() > FEW);
      state.showArrived();
    }
    renderEvents();
    renderNote();
    if (now - drawnAt > CHART_PAUSE) {
      drawnAt = now;
      renderChart();
    }
  });
}

function renderNote() {
  const hidden = state.waitingToBeShown();
  const held = isPaused ? "Paused" : isInUse() ? "Held still while an event is focused" : "";
  setText(byId("events-note"), held ? `${held}: +${count(hidden)} new.` : "The newest events come first. Select one to see its journey.");
}

const outboxHandlers = {
  reset: state.takeReset,
  status(status) {
    state.takeStatus(state.outbox, status);
    expect("parked", status.parked);
  },
  written(batch) {
    state.takeWritten(batch);
    addWrites(batch.events.length + batch.skipped);
    noticeWritten(batch.events);
  },
  published(batch) {
    addSamples(state.takePublished(batch));
  },
};

const copyHandlers = {
  reset: state.takeReset,
  status(status) {
    state.takeStatus(state.copySide, status);
    expect("letter", status.dead_letters);
  },
  applied(batch) {
    addSamples(state.takeApplied(batch));
  },
};

function connect(service, path, side, handlers) {
  const rendering = Object.entries(handlers).map(([name, handle]) => [name, (data) => { handle(data); render(); }]);
  follow(service, path, Object.fromEntries(rendering), (connection, fault) => {
    const isNew = side.connection !== connection;
    // While it tries again, what is known stays that it is away.
    if (connection === "connecting" && side.connection !== "open") return;
    state.takeConnection(side, connection, fault);
    if (isNew && connection === "open") learnRights(service);
    render();
  });
}

function select(id) {
  showJourney(id);
  byId("journey-title").scrollIntoView({ block: "nearest" });
}

async function start() {
  listenForSelection(select);
  startFailing(select);
  startForm();
  startJourney();
  byId("token-button").addEventListener("click", changeTokens);
  byId("pause").addEventListener("click", ({ target }) => {
    isPaused = !isPaused;
    target.setAttribute("aria-pressed", String(isPaused));
    setText(target, isPaused ? "Resume" : "Pause");
    render();
  });
  onToken(() => {
    reconnectNow();
    learnRights(users);
    if (copy.base !== null) learnRights(copy);
  });
  document.addEventListener("focusin", render);
  document.addEventListener("focusout", render);
  await configure();
  connect(users, "/outbox/stream", state.outbox, outboxHandlers);
  if (copy.base !== null) connect(copy, "/consumer/stream", state.copySide, copyHandlers);
  // Waits and ages go on between the events; the chart moves on.
  setInterval(() => {
    if (hasWaiting() || performance.now() - drawnAt > CHART_PAUSE) render();
  }, CHART_PAUSE);
}

start().catch((error) => {
  setText(byId("verdict-headline"), `This page could not start: ${error.message}. Load it again.`);
  byId("verdict").dataset.level = "bad";
});
