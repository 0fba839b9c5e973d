// Latency of the last minutes, and the figures that are computed from the same samples.

import { byId, setText } from "/live/dom.js";
import { formatDuration } from "/live/times.js";

const BUCKET = 2000;
const BUCKETS = 150;
/** Samples kept of each bucket and step: enough for a median, and for the slowest. */
const MAX_SAMPLES = 200;
const RECENT = 10_000;

const WIDTH = 600;
const HEIGHT = 180;
const LEFT = 46;
const BOTTOM = 20;
const TOP = 6;
const LOWEST = 0.1;
const HIGHEST = 60_000;
const TICKS = [1, 10, 100, 1000, 10_000];

const SVG = "http://www.w3.org/2000/svg";

const newSeries = () => ({ publish: [], apply: [], total: [] });
let buckets = [];
let writes = [];

function bucketNow() {
  const number = Math.floor(performance.now() / BUCKET);
  if (buckets.at(-1)?.number !== number) {
    buckets.push({ number, samples: newSeries(), seen: { publish: 0, apply: 0, total: 0 } });
    buckets = buckets.filter((bucket) => bucket.number > number - BUCKETS);
  }
  return buckets.at(-1);
}

/** Takes what was measured of some events: `publish`, `apply` and `total`, each if known. */
export function addSamples(measured) {
  const bucket = bucketNow();
  for (const one of measured) {
    for (const [step, ms] of Object.entries(one)) {
      if (ms === null) continue;
      const samples = bucket.samples[step];
      const seen = (bucket.seen[step] += 1);
      // Every sample is as likely to be kept as any other.
      const place = seen <= MAX_SAMPLES ? samples.length : Math.floor(Math.random() * seen);
      if (place < MAX_SAMPLES) samples[place] = Math.max(0, ms);
    }
  }
}

export function addWrites(number) {
  const second = Math.floor(performance.now() / 1000);
  if (writes.at(-1)?.second === second) writes.at(-1).number += number;
  else writes.push({ second, number });
  writes = writes.slice(-11);
}

/** Medians and the rate of the last seconds; null where nothing was measured. */
export function recent() {
  const now = performance.now();
  const from = Math.floor(now / 1000) - RECENT / 1000;
  const written = writes.filter((it) => it.second >= from).reduce((sum, it) => sum + it.number, 0);
  return { publish: medianSince("publish", now - RECENT), apply: medianSince("apply", now - RECENT), writes: written / (RECENT / 1000) };
}

function medianSince(step, since) {
  const latest = buckets.filter((bucket) => (bucket.number + 1) * BUCKET > since);
  const samples = latest.flatMap((bucket) => bucket.samples[step]);
  const sorted = (samples.length > 0 ? samples : (lastWith(step)?.samples[step] ?? [])).toSorted((a, b) => a - b);
  return quantile(sorted, 0.5);
}

const lastWith = (step) => buckets.findLast((bucket) => bucket.samples[step].length > 0);

const quantile = (sorted, share) => (sorted.length === 0 ? null : sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);

const y = (ms) => {
  const share = Math.log(Math.min(Math.max(ms, LOWEST), HIGHEST) / LOWEST) / Math.log(HIGHEST / LOWEST);
  return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP);
};

const x = (number, newest) => LEFT + ((number - newest + BUCKETS) / BUCKETS) * (WIDTH - LEFT);

let parts = null;

/** At most once a second; a picture of some hundred points. */
export function renderChart() {
  parts ??= draw(byId("chart"));
  const newest = Math.floor(performance.now() / BUCKET);
  const total = stepsOf("total");
  parts.spread.setAttribute("d", total.map((it) => `M${x(it.number, newest).toFixed(1)} ${y(it.low).toFixed(1)}V${(y(it.high) - 0.5).toFixed(1)}`).join(""));
  parts.total.setAttribute("d", line(total, newest));
  parts.publish.setAttribute("d", line(stepsOf("publish"), newest));
  const all = buckets.flatMap((bucket) => bucket.samples.total).toSorted((a, b) => a - b);
  const text = all.length === 0 ? "Nothing measured yet."
    : `Written → applied: median ${formatDuration(quantile(all, 0.5))}, 99 % within ${formatDuration(quantile(all, 0.99))}, slowest ${formatDuration(all.at(-1))}.`;
  setText(byId("latency-summary"), text);
  byId("chart").setAttribute("aria-label", `Latency of the last five minutes. ${text}`);
}

function stepsOf(step) {
  return buckets.filter((bucket) => bucket.samples[step].length > 0).map((bucket) => {
    const sorted = bucket.samples[step].toSorted((a, b) => a - b);
    return { number: bucket.number, low: sorted[0], middle: quantile(sorted, 0.5), high: sorted.at(-1) };
  });
}

/** A gap in time is a gap in the line; a point alone is a dot. */
function line(steps, newest) {
  return steps.map((it, index) => {
    const [px, py] = [x(it.number, newest).toFixed(1), y(it.middle).toFixed(1)];
    const follows = index > 0 && it.number - steps[index - 1].number <= 3;
    return follows ? `L${px} ${py}` : `M${px} ${py}h0.01`;
  }).join("");
}

function draw(into) {
  const svg = node("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const tick of TICKS) {
    svg.append(node("path", { class: "grid", d: `M${LEFT} ${y(tick)}H${WIDTH}` }));
  }
  const made = {};
  for (const name of ["spread", "total", "publish"]) svg.append((made[name] = node("path", { class: name })));
  const labels = TICKS.map((tick) => label(tick < 1000 ? `${tick} ms` : `${tick / 1000} s`, "value", y(tick) / HEIGHT));
  into.replaceChildren(svg, ...labels, label("5 min ago", "start", 1), label("now", "end", 1));
  return made;
}

/** Text beside the picture, so that it is not stretched with it. */
function label(text, kind, share) {
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = text;
  if (kind === "value") span.style.top = `${share * 100}%`;
  return span;
}

function node(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
