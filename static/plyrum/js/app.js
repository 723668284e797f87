/**
 * What every page may use: theme, copying, dialogs, messages, shown passwords, focus on errors.
 * Hooks are data-* attributes; nothing is global; every page works without this file.
 */

const YEAR_SECONDS = 31_536_000;
const COPIED_MS = 2000;

document.documentElement.classList.add("js");

/** Keep the chosen theme in the cookie the server reads, and apply it at once. */
function chooseTheme(form, theme) {
  document.cookie = `theme=${theme}; path=/; max-age=${YEAR_SECONDS}; samesite=lax`;
  document.documentElement.dataset.theme = theme;
  for (const button of form.querySelectorAll("button[name=theme]")) {
    button.setAttribute("aria-pressed", String(button.value === theme));
  }
}

/** Put text on the clipboard; where the browser refuses, select it for the person to copy. */
async function copy(button) {
  const source = button.dataset.copyFrom ? document.getElementById(button.dataset.copyFrom) : null;
  const text = source ? source.textContent : button.dataset.copy;
  const word = button.querySelector("[data-copy-word]");
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    if (source) getSelection().selectAllChildren(source);
    return;
  }
  const before = word?.textContent;
  button.classList.add("is-done");
  if (word) word.textContent = word.dataset.copied;
  setTimeout(() => {
    button.classList.remove("is-done");
    if (word) word.textContent = before;
  }, COPIED_MS);
}

function reveal(button) {
  const input = document.getElementById(button.dataset.reveal);
  const shown = input.type === "text";
  input.type = shown ? "password" : "text";
  button.setAttribute("aria-pressed", String(!shown));
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches("[data-theme-form]") && event.submitter) {
    event.preventDefault();
    chooseTheme(form, event.submitter.value);
    form.closest("[popover]")?.hidePopover();
  } else if (form.matches("[data-once]")) {
    // A second click must not send a second payment; the server's key is the real guard.
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
    event.submitter?.setAttribute("aria-busy", "true");
  }
});

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-copy], [data-copy-from], [data-reveal], [data-dismiss], [data-dialog], dialog");
  if (!target) return;
  if (target.matches("[data-copy], [data-copy-from]")) copy(target);
  else if (target.matches("[data-reveal]")) reveal(target);
  else if (target.matches("[data-dismiss]")) target.closest("[data-flash]")?.remove();
  else if (target.matches("[data-dialog]")) document.getElementById(target.dataset.dialog)?.showModal();
  else if (target === event.target && target.matches("dialog.dialog")) target.close();
});

// Back to a page from the browser's cache: buttons work again.
addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    form.querySelector("[aria-busy]")?.removeAttribute("aria-busy");
  }
});

/** What may scroll sideways must be reachable by keyboard. */
function makeReachable() {
  for (const part of document.querySelectorAll(".prose pre, .prose table")) part.tabIndex = 0;
}
makeReachable();
document.addEventListener("plyrum:added", makeReachable);

document.querySelector("[data-focus]")?.focus();

// The sum in the summary and on the pay button follows what is chosen or written.
for (const form of document.querySelectorAll("[data-amount-form]")) {
  const own = form.querySelector("[data-amount-own]");
  const shown = form.querySelectorAll("[data-amount-shown]");
  const format = new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: 0 });
  const update = () => {
    const chosen = form.querySelector("[data-amount]:checked");
    const digits = chosen && chosen.value !== "own" ? chosen.value : own.value.replace(/\D/g, "");
    const text = digits ? `${format.format(Number(digits))}\u00a0₽` : "";
    for (const place of shown) place.textContent = text;
  };
  own?.addEventListener("input", () => {
    const radio = form.querySelector("[data-amount][value=own]");
    if (radio) radio.checked = true;
    update();
  });
  form.addEventListener("change", update);
  update();
}

// What is left until a moment: data-until holds an ISO time, the element shows mm:ss.
function countdown() {
  for (const place of document.querySelectorAll("[data-until]")) {
    const seconds = Math.max(0, Math.round((Date.parse(place.dataset.until) - Date.now()) / 1000));
    place.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  }
}
if (document.querySelector("[data-until]")) {
  countdown();
  setInterval(() => document.hidden || countdown(), 1000);
}
