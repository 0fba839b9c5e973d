// The two services, the tokens for them, and what these may do.

import { byId } from "/live/dom.js";

const DEADLINE = 10_000;
const ANYTHING = { read: true, write: true, repair: true };
const NOTHING = { read: false, write: false, repair: false };

const service = (name, key, base) => ({ name, key, base, rights: null, refused: false });

export const users = service("user service", "users", "");
/** `base` is null if the page was set to leave the copy out. */
export const copy = service("notification service", "copy", null);

/** Where the copy is, as this page was configured. */
export async function configure() {
  const response = await fetch("/live/config.json", { signal: AbortSignal.timeout(DEADLINE) });
  if (!response.ok) throw new Error(`the configuration answers ${response.status}`);
  copy.base = (await response.json()).copy_url?.replace(/\/+$/, "") ?? null;
}

const listeners = new Set();
export const onRights = (listener) => listeners.add(listener);

/** Learns what the token may do; what is unknown is taken as forbidden. */
export async function learnRights(of) {
  try {
    const response = await request(of, "/access");
    of.rights = response.ok ? await response.json() : response.status === 404 ? ANYTHING : NOTHING;
  } catch {
    of.rights = null;
  }
  for (const listener of listeners) listener();
}

/** Why the token may not do this, or "". */
export function forbidden(of, scope) {
  if (of.refused) return `Not allowed: the ${of.name} needs a token.`;
  if (of.rights === null) return `The ${of.name} has not said yet what may be done.`;
  if (of.rights[scope]) return "";
  return `Not allowed: the token for the ${of.name} lacks the scope “${scope}”.`;
}

/** Sends a request with the token; asks for one if that is the answer, once. */
export async function request(of, path, options = {}) {
  const signal = options.signal ?? AbortSignal.timeout(DEADLINE);
  const send = () => {
    const headers = new Headers(options.headers);
    const token = tokenOf(of);
    if (token) headers.set("authorization", `Bearer ${token}`);
    return fetch(of.base + path, { ...options, headers, signal, cache: "no-store", credentials: "omit" });
  };
  const response = await send();
  of.refused = response.status === 401;
  if (of.refused) askUnlessDeclined(of);
  return response;
}

export const send = (of, method, path, body, headers = {}) =>
  request(of, path, {
    method,
    headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });

/** What a problem says, for people. */
export async function problem(response) {
  try {
    const { title, detail, errors } = await response.json();
    const text = detail ?? title ?? `status ${response.status}`;
    return { text: text.charAt(0).toUpperCase() + text.slice(1), errors: errors ?? [] };
  } catch {
    return { text: `The answer was ${response.status}`, errors: [] };
  }
}

const tokens = new Map();

function tokenOf(of) {
  if (tokens.has(of.key)) return tokens.get(of.key);
  try {
    return sessionStorage.getItem(`live-token-${of.key}`);
  } catch {
    return null; // Storage may be forbidden; the token then lives as long as the page.
  }
}

function setToken(of, token) {
  tokens.set(of.key, token);
  try {
    sessionStorage.setItem(`live-token-${of.key}`, token);
  } catch {
    // As above.
  }
}

const tokenListeners = new Set();
/** Called after a token was entered. */
export const onToken = (listener) => tokenListeners.add(listener);

let declined = false;

function askUnlessDeclined(of) {
  if (!declined) askForToken(of);
}

const isLoopback = (host) => host === "localhost" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host);

const hostOf = (of) => new URL(of.base, location.href).hostname;

/** Whether both services are on one host. What a token of one may do is no other host's business. */
function isOneHost() {
  if (copy.base === null) return false;
  return hostOf(copy) === hostOf(users) || (isLoopback(hostOf(copy)) && isLoopback(hostOf(users)));
}

/** Opens the prompt, and again for the copy if that has a token of its own. */
export function changeTokens() {
  if (copy.refused && !users.refused) askForToken(copy);
  else askForToken(users, !isOneHost() && Boolean(tokenOf(copy)) ? copy : null);
}

function askForToken(of, next = null) {
  const dialog = byId("token-dialog");
  if (dialog.open) return;
  const had = Boolean(tokenOf(of));
  byId("token-text").textContent = had && of.refused
    ? `The ${of.name} does not accept the token that was entered.`
    : `Enter a token for the ${of.name}. It decides what this page may show and do.`;
  const hosts = new Set([hostOf(of), ...(isOneHost() ? [hostOf(users), hostOf(copy)] : [])]);
  byId("token-hosts").textContent = [...hosts].join(" and ");
  byId("token-input").value = "";
  dialog.returnValue = "";
  dialog.addEventListener("close", () => {
    takeToken(of, dialog.returnValue);
    if (next) askForToken(next);
  }, { once: true });
  dialog.showModal();
  byId("token-input").focus();
}

function takeToken(of, choice) {
  const token = byId("token-input").value.trim();
  byId("token-input").value = "";
  declined = choice !== "use" || token === "";
  if (declined) return;
  const other = of === users ? copy : users;
  // Services that had the same token go on having the same.
  const sharesToken = isOneHost() && (!tokenOf(other) || other.refused || tokenOf(other) === tokenOf(of));
  setToken(of, token);
  if (sharesToken) setToken(other, token);
  for (const listener of tokenListeners) listener();
}
