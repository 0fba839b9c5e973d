// Times and durations. Each time says by whose clock it was taken: durations between two clocks
// can come out negative, and are then shown as such a difference, not as a duration.

/** Milliseconds since 1970 with their fraction, or null. */
export function parseTime(text) {
  if (!text) return null;
  const parsed = Date.parse(text);
  if (Number.isNaN(parsed)) return null;
  const fraction = /\.(\d+)/.exec(text);
  const whole = Math.floor(parsed / 1000) * 1000;
  return whole + (fraction ? Number(`0.${fraction[1]}`) * 1000 : 0);
}

export function formatDuration(ms) {
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 99.5) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} days`;
}

/** From one clock to another: "+2.1 ms", or "≈ 0 ms" with the difference of the clocks noted. */
export function formatStep(from, to) {
  if (from === null || to === null) return null;
  const ms = to - from;
  if (ms >= 0) return `+${formatDuration(ms)}`;
  // Some clocks are read to the millisecond only.
  if (ms > -1) return "< 1 ms";
  noteClockDifference(-ms);
  return "≈ 0 ms";
}

const clockTime = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
});
const date = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });

/** Time of day, with the date unless it is of today. */
export function formatTime(ms) {
  if (ms === null) return "–";
  const time = clockTime.format(ms);
  const isToday = date.format(ms) === date.format(Date.now());
  return isToday ? time : `${date.format(ms)}, ${time}`;
}

export const zone = () =>
  new Intl.DateTimeFormat("en-GB", { timeZoneName: "longOffset" })
    .formatToParts(Date.now())
    .find((part) => part.type === "timeZoneName").value.replace("GMT", "UTC");

let largestDifference = 0;

function noteClockDifference(ms) {
  largestDifference = Math.max(largestDifference, ms);
}

/** The largest difference of clocks that was seen, in milliseconds; 0 if none was. */
export const clockDifference = () => largestDifference;

// How far the user service's clock is ahead of this browser's: what waits is timed by the former.
let offset = null;
/** How far one time may move the offset back: more only if others agree. */
const MAX_BACK = 5000;

/** The time of a status: it is stamped when it is told, the first of a connection as well. */
export function observeServerTime(text) {
  const at = parseTime(text);
  if (at === null) return;
  const seen = at - Date.now();
  // What arrives late makes the server seem behind: the largest is the closest, but let it age.
  if (offset === null) offset = seen;
  else if (seen < offset - MAX_BACK) offset -= MAX_BACK;
  else offset = Math.max(seen, offset - 1);
}

/** Now, by the user service's clock. */
export const serverNow = () => Date.now() + (offset ?? 0);
