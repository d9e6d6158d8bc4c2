// The demo page: registers sw.js, subscribes with a VAPID public key, and prints what a request to the gateway needs.

const byId = (id) => document.getElementById(id);
const status = byId("status");
const HEADERS = `-H "Authorization: Bearer $KEY" -H 'Content-Type: application/json'`;

function say(words, { wrong = false } = {}) {
  status.textContent = words;
  status.classList.toggle("wrong", wrong);
}

function keyFrom(text) {
  const plain = text.trim().replace(/=+$/, "").replaceAll("-", "+").replaceAll("_", "/");
  let octets;
  try {
    octets = Uint8Array.from(atob(plain), (letter) => letter.charCodeAt(0));
  } catch {
    octets = new Uint8Array();
  }
  // RFC 8292 3.2: a point on P-256 in its uncompressed form.
  if (octets.length !== 65 || octets[0] !== 4) {
    throw new Error("This is no VAPID public key: 87 characters, as “gateway vapid” prints them.");
  }
  return octets;
}

function curlFor(subscription, gateway) {
  const body = {
    to: { web_push: subscription },
    channels: ["web_push"],
    content: { title: "Hello from the gateway", body: "It works.", url: location.href },
  };
  const json = JSON.stringify(body).replaceAll("'", String.raw`'\''`);
  return `curl -sS '${gateway.replace(/\/+$/, "").replaceAll("'", "%27")}/v1/notifications' ${HEADERS} -d '${json}'`;
}

function print(subscription) {
  byId("subscription").value = JSON.stringify(subscription, null, 2);
  byId("curl").value = curlFor(subscription, byId("gateway").value || "http://127.0.0.1:8080");
  byId("result").hidden = false;
}

async function subscribe() {
  const key = keyFrom(byId("key").value);
  if ((await Notification.requestPermission()) !== "granted") {
    throw new Error("The browser may not show notifications: allow them for this page, and try again.");
  }
  const registration = await navigator.serviceWorker.ready;
  // One made with another key would be refused by the push service.
  await (await registration.pushManager.getSubscription())?.unsubscribe();
  const subscription = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  print(subscription.toJSON());
  say("Subscribed. Send the line below; the message appears here and as a notification.");
}

function received(message) {
  const item = document.createElement("li");
  const title = document.createElement("strong");
  title.textContent = message.title || "Notification";
  item.append(title, message.body ? ` ${message.body}` : "");
  byId("messages").prepend(item);
  byId("none").hidden = true;
}

async function start() {
  if (!("serviceWorker" in navigator) || !("PushManager" in window)) {
    say("This browser has no web push here: it needs https, or http://localhost.", { wrong: true });
    return;
  }
  navigator.serviceWorker.addEventListener("message", ({ data }) => {
    if (data.type === "message") received(data.message);
    if (data.type === "subscription") print(data.subscription);
  });
  await navigator.serviceWorker.register("sw.js");
  await navigator.serviceWorker.ready;
  byId("subscribe").disabled = false;
  say("Ready. Paste the public key and subscribe.");
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  say("Subscribing …");
  subscribe().catch((error) => say(error.message, { wrong: true }));
});

for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId(button.dataset.copies).value);
    say("Copied.");
  });
}

start().catch((error) => say(error.message, { wrong: true }));
