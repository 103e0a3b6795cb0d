// What every page has beside its words: sessions in the visitor's own time, a word when the line is down, and the page
// that is shown without one. Each page is whole without this script.
(() => {
  const EASTERN = "America/New_York";
  const DAY = 1440;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

  // Kept, because making one is slow on a phone.
  const wall = new Intl.DateTimeFormat("en-US", {
    timeZone: EASTERN, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric",
  });

  // Minutes by which New York's clocks are ahead of UTC at a moment: fewer than none.
  function ahead(at) {
    const parts = wall.formatToParts(at);
    const of = (type) => Number(parts.find((part) => part.type === type).value);
    const there = Date.UTC(of("year"), of("month") - 1, of("day"), of("hour"), of("minute"));
    return Math.round((there - Math.floor(at / 60000) * 60000) / 60000);
  }

  const present = ahead(Date.now());
  const midnight = Math.floor((Date.now() + present * 60000) / 86400000) * 86400000;

  // The moment at which clocks in New York show `minute` of their present day, daylight saving included.
  function moment(minute) {
    const guess = midnight + minute * 60000 - present * 60000;
    return midnight + minute * 60000 - ahead(guess) * 60000;
  }

  // The same minute of the day on the visitor's clock.
  const known = new Map();
  function local(minute) {
    if (!known.has(minute)) {
      const there = new Date(moment(minute));
      known.set(minute, there.getHours() * 60 + there.getMinutes());
    }
    return known.get(minute);
  }

  const clock = (minute) => `${Math.floor(minute / 60)}:${String(minute % 60).padStart(2, "0")}`;
  const windowsOf = (text) => text.split(" ").filter(Boolean).map((pair) => pair.split("-").map(Number));
  const percent = (minutes) => `${(minutes * 100) / DAY}%`;

  // Some browsers still say the names that these cities had.
  const NAMES = { Calcutta: "Kolkata", Katmandu: "Kathmandu", Kiev: "Kyiv", Rangoon: "Yangon", Saigon: "Ho Chi Minh City" };
  const last = zone.split("/").pop().replaceAll("_", " ");
  const place = NAMES[last] ?? last;

  // A stretch of the day on the visitor's band; two where midnight lies within.
  function pieces([start, end]) {
    const length = Math.min(end - start, DAY);
    const from = local(start);
    const cut = [[from, Math.min(from + length, DAY)]];
    if (from + length > DAY) cut.push([0, from + length - DAY]);
    return cut;
  }

  function redraw(band) {
    const like = band.querySelector("rect[data-piece]");
    if (!like) return;
    const rects = windowsOf(band.dataset.windows).flatMap(pieces).map(([start, end]) => {
      const rect = like.cloneNode();
      rect.setAttribute("x", percent(start));
      rect.setAttribute("width", percent(end - start));
      return rect;
    });
    band.querySelectorAll("rect[data-piece]").forEach((rect) => rect.remove());
    // Below the line that shows the present hour.
    rects.forEach((rect) => band.insertBefore(rect, band.querySelector("[data-now]")));
  }

  function showNow() {
    const now = new Date();
    const here = percent(now.getHours() * 60 + now.getMinutes());
    document.querySelectorAll("[data-now]").forEach((line) => {
      line.removeAttribute("display");
      ["x1", "x2", "x"].forEach((name) => line.hasAttribute(name) && line.setAttribute(name, here));
    });
  }

  function sessions() {
    const bands = document.querySelectorAll("[data-windows]");
    if (!bands.length) return;
    if (zone !== EASTERN) {
      bands.forEach(redraw);
      document.querySelectorAll("[data-shift]").forEach((column) => {
        column.setAttribute("x", percent(local(Number(column.dataset.shift))));
      });
      document.querySelectorAll("[data-local]").forEach((text) => {
        const said = windowsOf(text.dataset.local).map(([start, end]) => `${clock(local(start))}–${clock(local(end))}`);
        text.textContent = `${said.join(" and ")} in ${place}`;
      });
    }
    document.querySelectorAll("[data-zone]").forEach((text) => {
      text.textContent = zone === EASTERN ? "Eastern Time, which is yours" : `your time, ${place}`;
    });
    showNow();
    setInterval(showNow, 60000);
  }

  // Moments in a customer's own pages stand on the visitor's clock; what they are in UTC is their title.
  const dated = new Intl.DateTimeFormat("en-GB", {
    day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZoneName: "short",
  });

  function moments() {
    if (!document.querySelector(".tabs") || ["UTC", "Etc/UTC"].includes(zone)) return;
    document.querySelectorAll("time[datetime]").forEach((each) => {
      if (!each.textContent.endsWith(" UTC")) return;
      each.title = each.textContent;
      each.textContent = dated.format(new Date(each.dateTime));
    });
  }

  // A question that an address points to is unfolded.
  function unfold() {
    const asked = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (asked instanceof HTMLDetailsElement) asked.open = true;
  }

  function tell() {
    const said = document.getElementById("offline");
    if (said) said.hidden = navigator.onLine;
  }

  // A piece of a page that did not come, although the line is up: said where the store says everything.
  function missed(event) {
    const said = document.getElementById("toasts");
    if (!said || !navigator.onLine || !(event.detail?.error instanceof TypeError)) return;
    said.querySelector("[data-missed]")?.remove();
    const toast = document.createElement("p");
    toast.className = "toast toast--danger";
    toast.dataset.missed = "";
    toast.textContent = "The store did not answer. What you typed is still here: please try again.";
    said.append(toast);
  }

  // What was said of the deed before does not stand beside the answer to the next one.
  function hush(event) {
    const isDeed = event.target instanceof HTMLFormElement && event.target.method === "post";
    if (isDeed) document.getElementById("toasts")?.replaceChildren();
  }

  sessions();
  moments();
  unfold();
  tell();
  addEventListener("htmx:after:swap", moments);
  addEventListener("hashchange", unfold);
  addEventListener("online", tell);
  addEventListener("offline", tell);
  addEventListener("htmx:error", missed);
  addEventListener("htmx:before:request", hush);

  // Paper shows answers and histories too.
  addEventListener("beforeprint", () => document.querySelectorAll(".question, .history").forEach((each) => { each.open = true; }));

  // From the second page on, a page without a line is shown as ours and not as the browser's.
  const cameFromHere = document.referrer.startsWith(`${location.origin}/`);
  if ("serviceWorker" in navigator && cameFromHere) {
    addEventListener("load", () => navigator.serviceWorker.register("/sw.js").catch(() => {}));
  }
})();
