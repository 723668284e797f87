/**
 * The chat page: send without leaving, show the answer as it comes, stop it, come back to it after a lost connection.
 *
 * Contract with the server (everything is shown by the server; this file never parses Markdown and never computes a price):
 * - POST form (text or starter, model, idempotency_key), Accept: application/json -> 201 {thread_id, thread_url, run_id, events_url,
 *   stop_url, message_html, idempotency_key?} or problem+json {code, detail, request_id}.
 * - GET events_url?after_seq=N, text/event-stream, `id` is the number of the frame. Events: html.block {html},
 *   html.tail {text}, status {text}, route {model, provider, country, reasons[]}, price {cost_micro_rub, released_micro_rub,
 *   balance_micro_rub, text}, finished {finish_reason, message_url}, failed {code, text, charged_micro_rub, message_url?}, ping.
 * - GET message_url -> HTML of the whole message (playground/_message.html).
 * - POST stop_url with X-CSRFToken, Accept: application/json stops; closing the page does not.
 * - POST estimate_url (text, model, thread) -> {text, over_limit?}.
 * Without this file the forms work too: the server waits and redirects.
 */

const RETRY_SECONDS = [1, 2, 5, 10];
const SILENCE_MS = 30_000; // the server pings every 10 s
const ESTIMATE_DELAY_MS = 400;
const COOL_DOWN_MS = 400; // a late click on Stop must not start a new run
const AT_END_PX = 80;
const MICRO = 1_000_000;

const root = document.querySelector("[data-chat]");
const form = root.querySelector("[data-composer]");
const field = form.elements.text;
const list = root.querySelector("[data-messages]");
const sendButton = form.querySelector("[data-send]");
const statusLine = form.querySelector("[data-status]");
const errorPlace = form.querySelector("[data-error]");
const toEnd = form.querySelector("[data-to-end]");
const estimateLine = form.querySelector("[data-estimate]");
const noEstimate = estimateLine.textContent;
const words = form.dataset;

let answer = null; // the run being shown: {item, eventsUrl, stopUrl, seq, ended, controller}
let sending = false;

/* ---- Button: sends, then stops, then rests ------------------------------------------------------------------- */

const sendWord = sendButton.querySelector("[data-send-word]");
const idleWord = sendWord.textContent;

function showStop(stopping) {
  sendButton.querySelector("[data-send-icon]").hidden = stopping;
  sendButton.querySelector("[data-stop-icon]").hidden = !stopping;
  sendWord.textContent = stopping ? sendWord.dataset.stop : idleWord;
  sendButton.classList.toggle("btn-primary", !stopping);
  sendButton.classList.toggle("btn-secondary", stopping);
}

function rest() {
  showStop(false);
  sendButton.disabled = true;
  setTimeout(() => { sendButton.disabled = false; }, COOL_DOWN_MS);
  askEstimate(); // the price of the question that was answered is gone, and the next one has a longer history
}

/* ---- The heading: a new talk is named by its first question ------------------------------------------------------ */

const TITLE_LENGTH = 80;

function nameThread(question) {
  const welcome = root.querySelector("[data-welcome]");
  if (!welcome) return;
  welcome.remove();
  const title = root.querySelector("[data-title]");
  if (title) title.textContent = question.slice(0, TITLE_LENGTH);
  document.querySelector("[data-new-topic]").hidden = false;
}

/* ---- Scrolling: the page moves once for the question, then only follows a reader who is at the end ------------- */

let following = false;
const atEnd = () => innerHeight + scrollY >= document.documentElement.scrollHeight - AT_END_PX;
const textIsSelected = () => String(getSelection()).length > 0;

addEventListener("scroll", () => {
  following = atEnd();
  toEnd.hidden = following || !answer;
}, { passive: true });

function follow() {
  if (following && !textIsSelected()) scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
  else toEnd.hidden = atEnd();
}

toEnd.addEventListener("click", () => {
  following = true;
  scrollTo({ top: document.documentElement.scrollHeight, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth" });
});

/* ---- Sending ---------------------------------------------------------------------------------------------------- */

const fromTemplate = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

function htmlToItem(html) {
  const place = document.createElement("template");
  place.innerHTML = html;
  return place.content.firstElementChild;
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function showError({ title, text, code = "", requestId = "", topup = false }) {
  const box = fromTemplate(topup ? "money-template" : "error-template");
  const heading = box.querySelector("strong");
  heading.textContent = title;
  if (text) {
    const details = document.createElement("p");
    details.textContent = text;
    heading.parentElement.after(details);
  }
  if (code || requestId) {
    const line = document.createElement("p");
    line.className = "xs";
    const mark = document.createElement("code");
    mark.textContent = [code, requestId].filter(Boolean).join(" · ");
    line.append(mark);
    box.lastElementChild.append(line);
  }
  errorPlace.replaceChildren(box);
}

async function send() {
  const text = field.value.trim();
  if (!text || sending || answer) return;
  sending = true;
  errorPlace.replaceChildren();
  sendButton.disabled = true;
  statusLine.textContent = words.wordSending;
  const body = new FormData(form);
  let response;
  try {
    response = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" }, credentials: "same-origin" });
  } catch {
    // The key stays: pressing the button again reaches the same run, if the first attempt did arrive.
    finishSending();
    showError({ title: words.wordOffline, text: "" });
    return;
  }
  const data = await response.json().catch(() => null);
  finishSending();
  if (response.status !== 201 || !data) return refused(response, data);
  nameThread(text);
  const question = data.message_html ? htmlToItem(data.message_html) : plainQuestion(text);
  list.append(question);
  field.value = "";
  form.elements.idempotency_key.value = data.idempotency_key ?? newKey();
  form.dataset.thread = data.thread_id ?? "";
  if (data.thread_url && data.thread_url !== location.pathname) {
    history.pushState(null, "", data.thread_url);
    form.action = data.thread_url;
  }
  const item = fromTemplate("answer-template");
  list.append(item);
  question.scrollIntoView({ block: "start", behavior: "instant" });
  following = atEnd();
  show({ item, eventsUrl: data.events_url, stopUrl: data.stop_url, seq: 0 });
}

function finishSending() {
  sending = false;
  sendButton.disabled = false;
  statusLine.textContent = "";
}

function plainQuestion(text) {
  const item = fromTemplate("question-template");
  item.querySelector(".bubble").textContent = text;
  return item;
}

function refused(response, problem) {
  if (!problem) return showError({ title: words.wordBroken, text: "", code: String(response.status) });
  // A key is spent once its request was judged; only a run under way keeps it.
  if (problem.code === "idempotency_mismatch") form.elements.idempotency_key.value = newKey();
  showError({
    title: problem.title ?? problem.detail,
    text: problem.title && problem.detail !== problem.title ? problem.detail ?? "" : "",
    code: problem.code,
    requestId: problem.request_id,
    topup: response.status === 402,
  });
  field.focus();
}

/* ---- Reading the frames of a run ---------------------------------------------------------------------------------- */

async function show(run) {
  answer = { ...run, ended: false, startedAt: Date.now() };
  showStop(true);
  announce(words.wordAnswering, true);
  const mine = answer;
  let failures = 0;
  while (!mine.ended) {
    try {
      const before = mine.seq;
      await readOnce(mine);
      if (mine.ended) break;
      if (mine.seq > before) failures = 0;
    } catch (error) {
      if (error.status === 404 || error.status === 403) return give(mine, words.wordBroken);
    }
    if (mine.ended) break;
    setRunStatus(mine, words.wordLost);
    await new Promise((wake) => setTimeout(wake, RETRY_SECONDS[Math.min(failures, RETRY_SECONDS.length - 1)] * 1000));
    failures += 1;
  }
}

async function readOnce(run) {
  run.controller = new AbortController();
  let silence = setTimeout(() => run.controller.abort(), SILENCE_MS);
  try {
    const url = new URL(run.eventsUrl, location.href);
    url.searchParams.set("after_seq", run.seq);
    const response = await fetch(url, { headers: { Accept: "text/event-stream" }, signal: run.controller.signal, cache: "no-store" });
    if (!response.ok) throw Object.assign(new Error("refused"), { status: response.status });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    while (!run.ended) {
      const { value, done } = await reader.read();
      if (done) break;
      clearTimeout(silence);
      silence = setTimeout(() => run.controller.abort(), SILENCE_MS);
      rest = (rest + value).replaceAll("\r\n", "\n");
      let end;
      while ((end = rest.indexOf("\n\n")) >= 0) {
        accept(run, rest.slice(0, end));
        rest = rest.slice(end + 2);
      }
    }
    if (run.ended) reader.cancel().catch(() => {});
  } finally {
    clearTimeout(silence);
  }
}

function accept(run, text) {
  let name = "message";
  let id = null;
  const lines = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("id:")) id = Number(line.slice(3).trim());
    else if (line.startsWith("data:")) lines.push(line.slice(5).replace(/^ /, ""));
  }
  const data = lines.length ? JSON.parse(lines.join("\n")) : {};
  handlers[name]?.(run, data);
  if (id !== null && id > run.seq) run.seq = id;
}

const handlers = {
  "html.block"(run, { html }) {
    run.item.querySelector("[data-blocks]").insertAdjacentHTML("beforeend", html);
    run.item.querySelector("[data-tail]").textContent = "";
    setRunStatus(run, "");
    added();
    follow();
  },
  "html.tail"(run, { text }) {
    run.item.querySelector("[data-tail]").textContent = text;
    setRunStatus(run, "");
    follow();
  },
  status(run, { text }) {
    setRunStatus(run, text);
  },
  route(run, { model, provider, country }) {
    setRunStatus(run, `${words.wordRoute}: ${[model, provider, country].filter(Boolean).join(", ")}`);
  },
  price(run, { text, balance_micro_rub: balance }) {
    run.price = text;
    const chip = document.querySelector("[data-balance]");
    if (chip && balance !== undefined && balance !== null && /\d/.test(chip.textContent)) chip.textContent = roubles(balance);
  },
  async finished(run, { message_url: url, thread_cost_text: total }) {
    end(run, words.wordDone);
    const place = root.querySelector("[data-thread-cost]");
    if (place && total) place.textContent = total;
    await replaceMessage(run, url);
  },
  async failed(run, { text, message_url: url }) {
    run.item.classList.replace("is-running", "is-failed");
    end(run, text);
    setRunStatus(run, text);
    if (url) await replaceMessage(run, url);
  },
};

/** Take the server's final form of the message: whole text, price line, reasons. */
async function replaceMessage(run, url) {
  if (!url) return;
  try {
    const response = await fetch(url, { headers: { Accept: "text/html" } });
    if (!response.ok) return;
    const item = htmlToItem(await response.text());
    if (item && !textIsSelected()) run.item.replaceWith(item);
    added();
    if (following) follow();
  } catch {
    // The text that has arrived stays; the whole message is there after a reload.
  }
}

function end(run, text) {
  run.ended = true;
  run.item.querySelector("[data-tail]").textContent = "";
  run.item.classList.remove("is-running");
  setRunStatus(run, run.price ?? "");
  const seconds = Math.max(1, Math.round((Date.now() - run.startedAt) / 1000));
  announce([text, `${seconds} ${words.wordSeconds}`, run.price].filter(Boolean).join(", "), false);
  answer = null;
  toEnd.hidden = true;
  rest();
}

function give(run, text) {
  run.ended = true;
  run.item.classList.remove("is-running");
  setRunStatus(run, text);
  answer = null;
  rest();
}

/** Tell app.js that there is new content to make reachable. */
const added = () => document.dispatchEvent(new Event("plyrum:added"));

function setRunStatus(run, text) {
  const line = run.item.querySelector("[data-run-status]");
  if (line && line.textContent !== text) line.textContent = text;
}

const pageTitle = document.title;
function announce(text, busy) {
  statusLine.textContent = text;
  document.title = busy ? `… ${pageTitle}` : pageTitle;
}

/** The same cut as the server's filter: two digits, never rounded up; below one rouble as it is. */
function roubles(micro) {
  const digits = Math.abs(micro) >= MICRO ? 2 : 6;
  const cut = Math.trunc(micro / 10 ** (6 - digits)) / 10 ** digits;
  const options = digits === 2 ? { minimumFractionDigits: 2, maximumFractionDigits: 2 } : { minimumFractionDigits: micro ? 2 : 0, maximumSignificantDigits: 4 };
  return `${new Intl.NumberFormat(document.documentElement.lang, options).format(cut)}\u00a0₽`;
}

/* ---- Stopping -------------------------------------------------------------------------------------------------------- */

async function stop() {
  const run = answer;
  if (!run || run.stopping) return;
  run.stopping = true;
  setRunStatus(run, words.wordStopping);
  try {
    const headers = { Accept: "application/json", "X-CSRFToken": form.elements.csrfmiddlewaretoken.value };
    await fetch(run.stopUrl, { method: "POST", headers });
  } finally {
    run.stopping = false; // the frames say what was charged; a stop that did not arrive can be repeated
  }
}

/* ---- Price before sending ----------------------------------------------------------------------------------------------- */

let estimateTimer = 0;
let estimateRequest = null;

function showEstimate(line, isOver) {
  estimateLine.textContent = line;
  estimateLine.parentElement.classList.toggle("is-over", isOver);
}

function askEstimate() {
  clearTimeout(estimateTimer);
  estimateTimer = setTimeout(async () => {
    const text = field.value.trim();
    estimateRequest?.abort();
    if (!text) return showEstimate(noEstimate, false);
    estimateRequest = new AbortController();
    const body = new FormData();
    body.set("text", text);
    body.set("model", form.elements.model.value);
    body.set("thread", form.dataset.thread ?? ""); // what was said before is paid for again
    body.set("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
    try {
      const response = await fetch(words.estimateUrl, { method: "POST", body, signal: estimateRequest.signal });
      if (!response.ok) return;
      const { text: line, over_limit: over } = await response.json();
      showEstimate(line, Boolean(over));
    } catch {
      // A price that could not be read is asked again with the next letter.
    }
  }, ESTIMATE_DELAY_MS);
}

/* ---- Keys and events ---------------------------------------------------------------------------------------------------- */

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter?.dataset.starter) {
    field.value = event.submitter.dataset.starter;
    send();
  } else if (answer) stop();
  else send();
});

field.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.isComposing || event.keyCode === 229) return;
  const always = event.ctrlKey || event.metaKey;
  if (event.shiftKey && !always) return;
  event.preventDefault();
  if (!answer) send();
});

field.addEventListener("input", askEstimate);
form.elements.model.addEventListener("change", askEstimate);

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key === "Escape" && answer && !document.querySelector("dialog[open], :popover-open")) stop();
  else if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    field.focus();
  }
});

addEventListener("popstate", () => location.reload());

// An answer was under way when the page was opened: read it from its first frame.
const unfinished = list.querySelector("[data-answer][data-events-url]");
if (unfinished) {
  unfinished.classList.add("is-running");
  show({
    item: unfinished,
    eventsUrl: unfinished.dataset.eventsUrl,
    stopUrl: unfinished.dataset.stopUrl,
    seq: Number(unfinished.dataset.afterSeq),
  });
} else if (list.children.length) {
  scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
}
if (matchMedia("(hover: hover)").matches) field.focus({ preventScroll: true });
if (field.value) askEstimate();
