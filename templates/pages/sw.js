// Shows the store's own page while the line is down, and keeps nothing else: what a page says must be of now.
const PAGE = {{ page|tojson }};
const KEPT = {{ ([page] + files)|tojson }};
const SHELF = "offline " + KEPT.join(" ");

addEventListener("install", (event) => {
  event.waitUntil(caches.open(SHELF).then((shelf) => shelf.addAll(KEPT)).then(() => skipWaiting()));
});

addEventListener("activate", (event) => {
  const others = caches.keys().then((names) => Promise.all(names.filter((name) => name !== SHELF).map((name) => caches.delete(name))));
  const preload = registration.navigationPreload ? registration.navigationPreload.enable() : null;
  event.waitUntil(Promise.all([others, preload]));
});

addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || request.mode !== "navigate") return;
  event.respondWith((async () => {
    try {
      return (await event.preloadResponse) || (await fetch(request));
    } catch {
      return caches.match(PAGE);
    }
  })());
});
