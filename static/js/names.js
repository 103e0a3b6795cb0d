// What is said of a TradingView name while it is typed and no answer is there yet; and what was typed is still there
// after a sign-in in the same tab. Without this script the name is checked when the form is sent.
(() => {
  const SLOW = 3000;
  const root = document.getElementById("form");
  if (!root) return;
  const find = (selector) => root.querySelector(selector);
  const isName = (element) => element && element.name === "tradingview_name";
  let slow = 0;

  function hush() {
    clearTimeout(slow);
    const asking = find("[data-asking]");
    if (asking) asking.hidden = true;
    for (const each of ["slow", "failed"]) {
      const line = find(`[data-${each}]`);
      if (line) line.textContent = "";
    }
  }

  function say(which) {
    const line = find(`[data-${which}]`);
    if (line) line.textContent = line.dataset[which];
  }

  // What was said of another name must not stand beside this one.
  root.addEventListener("input", (event) => {
    if (!isName(event.target)) return;
    hush();
    const answer = find("#answer");
    if (answer) answer.replaceChildren();
  });

  // A name that may have been meant is put into the field, as if it were typed. The link does it without this script.
  root.addEventListener("click", (event) => {
    const meant = event.target.closest("[data-variant]");
    const field = find("[name=tradingview_name]");
    if (!meant || !field || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    field.value = meant.dataset.variant;
    field.focus();
    field.dispatchEvent(new Event("input", { bubbles: true }));
  });

  document.addEventListener("htmx:before:request", (event) => {
    if (!isName(event.target)) return;
    hush();
    if (event.target.value.trim().length < 3) return;
    const asking = find("[data-asking]");
    if (asking) asking.hidden = false;
    slow = setTimeout(() => {
      if (asking) asking.hidden = true;
      say("slow");
    }, SLOW);
  });

  document.addEventListener("htmx:finally:request", (event) => {
    if (!isName(event.target)) return;
    clearTimeout(slow);
    const [asking, late] = [find("[data-asking]"), find("[data-slow]")];
    if (asking) asking.hidden = true;
    if (late) late.textContent = "";
  });

  function failed(event) {
    if (!isName(event.target)) return;
    // A question that was called off by the next one has not failed.
    const error = event.detail && (event.detail.error || (event.detail.ctx && event.detail.ctx.error));
    if (error && error.name === "AbortError") return;
    hush();
    say("failed");
  }

  document.addEventListener("htmx:error", failed);
  document.addEventListener("htmx:response:error", (event) => {
    const answer = event.detail && event.detail.ctx && event.detail.ctx.response;
    if (answer && answer.status >= 500) failed(event);
  });

  // A draft of this tab, for the person who typed it: it is put back only where the page has nothing.
  const form = find("form[data-draft]");
  if (!form) return;
  const key = `onboarding:${form.dataset.draft}`;
  const kept = ["name", "tradingview_name"];

  function putBack() {
    const draft = JSON.parse(sessionStorage.getItem(key) || "{}");
    for (const name of kept) {
      const field = find(`[name=${name}]`);
      if (!field || field.value || typeof draft[name] !== "string" || !draft[name]) continue;
      field.value = draft[name];
      // As if it were typed, so that the name is looked up.
      if (isName(field)) field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }

  // Once htmx listens to the field.
  document.addEventListener("htmx:after:init", (event) => {
    if (!isName(event.target)) return;
    try {
      putBack();
    } catch {
      // A browser that keeps nothing loses nothing else.
    }
  });

  root.addEventListener("input", () => {
    try {
      const typed = Object.fromEntries(kept.map((name) => [name, (find(`[name=${name}]`) || {}).value || ""]));
      sessionStorage.setItem(key, JSON.stringify(typed));
    } catch {
      // As above.
    }
  });
})();
