// Creates, changes and deletes a user, and shows its row and its copy side by side.

import { copy, forbidden, onRights, problem, request, send, users } from "/live/access.js";
import { byId, el, enable, setText } from "/live/dom.js";
import { formatDuration, formatTime, parseTime } from "/live/times.js";

const WAIT = "wait=5s";
/** The copy is asked again for so long, with a pause where it cannot answer. */
const MAX_LOOKS = 240;
const PAUSE = 1000;
const FIELDS = [["id", "id"], ["name", "name"], ["email", "e-mail"], ["version", "version"], ["updated_at", "changed"]];
const EXAMPLES = ["Ada Lovelace", "Grace Hopper", "Edsger Dijkstra", "Barbara Liskov", "Leslie Lamport", "Radia Perlman"];

/** The user in hand: `row` is null once it is deleted. */
let user = null;
let turn = 0;

export function startForm() {
  byId("change-form").addEventListener("submit", (event) => {
    event.preventDefault();
    create();
  });
  byId("save").addEventListener("click", save);
  byId("delete").addEventListener("click", remove);
  byId("example").addEventListener("click", fillExample);
  byId("load-form").addEventListener("submit", (event) => {
    event.preventDefault();
    load(byId("load-id").value.trim());
  });
  onRights(renderRights);
  renderRights();
  renderSides();
}

/** Shows what others do to the user in hand; what is typed in the form stays. */
export function noticeWritten(events) {
  const isNewer = (event) =>
    event.aggregate_type === "user" && user?.row && String(event.aggregate_id) === String(user.row.id) && event.version > user.row.version;
  if (!isWriting && events.some(isNewer)) load(String(user.row.id), "Changed by somebody else; the form was left as it is.", false);
}

let isWriting = false;

/** A creation whose answer has not come: sent again under its key, it is carried out once. */
let unanswered = null;

async function create() {
  const wanted = JSON.stringify(draft());
  if (unanswered?.wanted !== wanted) unanswered = { wanted, key: crypto.randomUUID?.() ?? String(Math.random()).slice(2) };
  await write("Created", async () => {
    const response = await send(users, "POST", "/users", JSON.parse(wanted), { "idempotency-key": unanswered.key });
    // A request in progress (409) and others to be asked again say when.
    if (response.status < 500 && !response.headers.has("retry-after")) unanswered = null;
    return response;
  });
}

async function save() {
  await write("Changed", () => send(users, "PUT", `/users/${user.row.id}`, draft(), { "if-match": `"${user.row.version}"` }));
}

async function remove() {
  const { id, version } = user.row;
  await write("Deleted", () => send(users, "DELETE", `/users/${id}`, undefined, { "if-match": `"${version}"` }), id);
}

const draft = () => ({ name: byId("user-name").value, email: byId("user-email").value });

/** `deleted` is the id of a user that the request removes. */
async function write(done, request, deleted = null) {
  if (isWriting) return;
  isWriting = true;
  loads += 1;
  const asked = performance.now();
  renderRights();
  renderFaults([]);
  say("Writing.");
  try {
    const response = await request();
    const took = formatDuration(performance.now() - asked);
    if (!response.ok) return await refused(response);
    const row = deleted === null ? await response.json() : null;
    const version = row?.version ?? Number(/\d+/.exec(response.headers.get("etag") ?? "")?.[0]);
    const id = row?.id ?? deleted;
    const isSame = user?.id === id && user.version === version;
    const told = `${isSame ? "Nothing to change" : done}: user ${id}, version ${version}.`;
    show(id, version, row);
    say(`${told} The answer took ${took}, by this browser’s clock.`);
    followCopy(id, version, told);
  } catch {
    say("The user service did not answer. Whether it wrote is not known: load the user, or try again.", "bad");
  } finally {
    isWriting = false;
    renderRights();
  }
}

async function refused(response) {
  const { text, errors } = await problem(response);
  renderFaults(errors);
  const hint = response.status === 412 ? " Load it again: somebody else has changed it." : "";
  say(`${text}${/[.!?]$/.test(text) ? "" : "."}${hint}`, "bad");
}

let loads = 0;

/** `fills` says whether the form takes the fields; if not, this only brings the user in hand up to date. */
async function load(id, done = "Loaded.", fills = true) {
  if (!/^\d+$/.test(id)) return say("An id is a number, such as 1.", "bad");
  const mine = fills ? (loads += 1) : loads;
  // A later load or write wins.
  const isCurrent = (version = Infinity) => mine === loads && (fills || (String(user.id) === id && version >= user.version));
  try {
    const response = await request(users, `/users/${id}`);
    if (!isCurrent()) return;
    if (!response.ok) return await refused(response);
    const row = await response.json();
    if (!isCurrent(row.version)) return;
    show(row.id, row.version, row);
    if (fills) {
      byId("user-name").value = row.name;
      byId("user-email").value = row.email;
    }
    say(done);
    followCopy(row.id, row.version, done);
  } catch {
    if (isCurrent()) say("The user service did not answer.", "bad");
  }
}

function show(id, version, row) {
  user = { id, version, row, copy: undefined, note: "" };
  byId("load-id").value = String(id);
  renderSides();
  renderRights();
}

/** Waits until the copy has this version; another user in hand ends it. */
async function followCopy(id, version, done) {
  const mine = (turn += 1);
  const isCurrent = () => mine === turn && user?.id === id;
  if (copy.base === null) return setCopy(null, "left out");
  const asked = performance.now();
  for (let look = 0; look < MAX_LOOKS && isCurrent(); look += 1) {
    const answer = await askCopy(id, version);
    if (!isCurrent()) return;
    setCopy(answer.copy, answer.note);
    if (answer.isThere) {
      return say(`${done} The copy has it; seen after ${formatDuration(performance.now() - asked)}, by this browser’s clock.`);
    }
    if (look === 0) say(`${done} The copy does not have it yet.`);
    if (answer.isAway) await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
}

async function askCopy(id, version) {
  try {
    const signal = AbortSignal.timeout(8000);
    const response = await request(copy, `/notifications/user/${id}?min_version=${version}&${WAIT}`, { signal });
    if (response.ok) return { isThere: true, copy: await response.json(), note: "" };
    if (response.status === 410) return { isThere: user?.row === null, copy: null, note: "deleted", isAway: true };
    if (response.status === 503) return { copy: user?.copy, note: "waiting", isAway: true };
    return { copy: null, note: response.status === 404 ? "not there yet" : (await problem(response)).text, isAway: true };
  } catch {
    return { copy: user?.copy, note: "unavailable", isAway: true };
  }
}

function setCopy(found, note) {
  user.copy = found;
  user.note = note;
  renderSides();
}

function renderSides() {
  const row = user?.row ?? null;
  const other = user?.copy ?? null;
  byId("sides").replaceChildren(...FIELDS.map(([field, label]) => {
    const ours = cell(field, row?.[field]);
    const theirs = cell(field, field === "id" ? other?.user_id : other?.[field]);
    const differs = user !== null && user.note !== "left out" && (other !== null || user.note !== "") && ours !== theirs;
    const mine = user && !row && field === "id" ? `${user.id} (deleted, version ${user.version})` : ours;
    const its = field === "id" && other === null && user ? user.note : theirs;
    const tr = el("tr", {}, el("th", { scope: "row" }, label), value(mine), value(its));
    tr.dataset.differs = String(differs && (row !== null || other !== null));
    return tr;
  }));
}

/** Text of any length and direction, on its own line. */
const value = (text) => el("td", {}, el("span", { dir: "auto", title: text }, text));

function cell(field, content) {
  if (content === null || content === undefined) return "";
  return field === "updated_at" ? formatTime(parseTime(content)) : String(content);
}

function renderRights() {
  const why = forbidden(users, "write");
  setText(byId("change-rights"), why);
  enable(byId("create"), why === "" && !isWriting);
  enable(byId("save"), why === "" && !isWriting && Boolean(user?.row));
  enable(byId("delete"), why === "" && !isWriting && Boolean(user?.row));
}

function renderFaults(errors) {
  for (const [field, input] of [["name", byId("user-name")], ["email", byId("user-email")]]) {
    const fault = errors.find((error) => error.pointer === `/${field}`)?.detail ?? "";
    setText(byId(`${input.id}-fault`), fault);
    input.setAttribute("aria-invalid", String(fault !== ""));
  }
}

function say(text, level = "") {
  setText(byId("change-result"), text);
  byId("change-result").dataset.level = level;
}

function fillExample() {
  const name = EXAMPLES[Math.floor(Math.random() * EXAMPLES.length)];
  const number = Math.floor(Math.random() * 1e6);
  byId("user-name").value = name;
  byId("user-email").value = `${name.split(" ")[0].toLowerCase()}.${number}@example.com`;
  byId("create").focus();
}
