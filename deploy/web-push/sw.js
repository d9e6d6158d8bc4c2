// The service worker: shows what the gateway pushes, and opens its link when somebody clicks.
//
// To copy into your own site. A push is JSON: {id, title, body, url?, image?, actions?: [{title, url}], …}; `…` is what
// `overrides.web_push` of the request, or a template's web_push part, lays over it: icon, badge, tag, data and the like.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => event.waitUntil(show(read(event.data))));

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const { url, urls } = event.notification.data ?? {};
  const wanted = event.action ? urls?.[Number(event.action)] : url;
  if (wanted) event.waitUntil(open(wanted));
});

// A browser may change its subscription by itself: whoever keeps it must hear of the new one.
self.addEventListener("pushsubscriptionchange", (event) => {
  const key = event.oldSubscription?.options.applicationServerKey;
  if (!key) return;
  event.waitUntil(
    self.registration.pushManager
      .subscribe({ userVisibleOnly: true, applicationServerKey: key })
      .then((subscription) => tell({ type: "subscription", subscription: subscription.toJSON() })),
  );
});

function read(data) {
  if (!data) return { title: "Notification" };
  try {
    return data.json();
  } catch {
    return { title: data.text() };
  }
}

async function show(message) {
  const { title, body, image, icon, badge, tag, dir, lang, renotify, requireInteraction, silent, timestamp, vibrate } =
    message;
  const actions = message.actions ?? [];
  // Every push must show something (`userVisibleOnly`), so this is never skipped.
  await self.registration.showNotification(title || "Notification", {
    body, image, icon, badge, tag, dir, lang, renotify, requireInteraction, silent, timestamp, vibrate,
    actions: actions.map((action, index) => ({ action: String(index), title: action.title })),
    data: { id: message.id, url: message.url, urls: actions.map((action) => action.url), more: message.data },
  });
  await tell({ type: "message", message });
}

async function open(address) {
  const url = new URL(address, self.location.href);
  if (url.protocol !== "https:" && url.protocol !== "http:") return;
  const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const there = windows.find((client) => client.url === url.href);
  await (there ? there.focus() : self.clients.openWindow(url.href));
}

async function tell(what) {
  const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  for (const client of windows) client.postMessage(what);
}
