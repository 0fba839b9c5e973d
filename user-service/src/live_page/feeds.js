// Server-sent events by `fetch`, which can send a token. A feed reconnects by itself.

import { problem, request } from "/live/access.js";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
/** Feeds send a comment at least every 15 s. */
const SILENCE = 40_000;
const LONGEST_EVENT = 1_000_000;

/** Follows a feed for as long as the page is open. `changed` learns the state of the connection. */
export async function follow(service, path, handlers, changed) {
  let pause = FIRST_PAUSE;
  for (;;) {
    const connection = new AbortController();
    try {
      changed("connecting");
      await read(service, path, connection, (name, data) => {
        changed("open");
        pause = FIRST_PAUSE;
        handlers[name]?.(data);
      });
      changed("lost");
    } catch (error) {
      const isRefused = error instanceof Refused;
      changed(isRefused ? "refused" : error instanceof Answered ? "failing" : "lost", error.message);
      // Asking again with the same token is of little use.
      if (isRefused) pause = LONGEST_PAUSE;
    }
    connection.abort();
    // Between half and the whole pause, so that pages that were cut together come back apart.
    await wakeUpAfter(pause * (0.5 + Math.random() / 2));
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
}

class Refused extends Error {}
/** The service is there, and does not serve the feed. */
class Answered extends Error {}

let wakeUps = [];

/** Ends all pauses, as when a token was entered. */
export function reconnectNow() {
  for (const wakeUp of wakeUps) wakeUp();
  wakeUps = [];
}

function wakeUpAfter(ms) {
  return new Promise((resolve) => {
    wakeUps.push(resolve);
    setTimeout(() => {
      wakeUps = wakeUps.filter((it) => it !== resolve);
      resolve();
    }, ms);
  });
}

async function read(service, path, connection, take) {
  let watchdog;
  const expectMore = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => connection.abort(new Error("the feed fell silent")), SILENCE);
  };
  expectMore();
  try {
    const response = await request(service, path, {
      signal: connection.signal,
      headers: { accept: "text/event-stream" },
    });
    if (response.status === 401 || response.status === 403) throw new Refused("a token is needed");
    if (!response.ok) throw new Answered(`${response.status}: ${(await problem(response)).text}`);
    const parse = parser(take);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      expectMore();
      parse(value);
    }
  } finally {
    clearTimeout(watchdog);
  }
}

/** Cuts text into events, whatever pieces it comes in. */
export function parser(take) {
  let rest = "";
  let name = "message";
  let data = [];
  return (text) => {
    const lines = (rest + text).split(/\r\n|\n/);
    rest = lines.pop();
    if (rest.length > LONGEST_EVENT) throw new Error("an event is too long");
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) take(name, JSON.parse(data.join("\n")));
        name = "message";
        data = [];
      } else if (line.startsWith("event:")) {
        name = line.slice(6).trim();
      } else if (line.startsWith("data:")) {
        data.push(line.slice(5).trimStart());
      }
    }
  };
}
