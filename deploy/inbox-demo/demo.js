const { gateway, user } = await (await fetch("config.json")).json();

const inbox = document.querySelector("notification-inbox");
inbox.setAttribute("user", user);
inbox.setAttribute("base-url", gateway);
// Your own back end knows who is signed in, and asks the gateway for a token. No key of the gateway is ever in a page.
inbox.getToken = async () => (await (await fetch("inbox-token", { method: "POST" })).json()).token;

// Where your page has a place for it, show it there; otherwise the component opens the address in a new tab.
inbox.addEventListener("notification-open", (event) => {
  if (!event.detail.url) document.querySelector("#opened").textContent = `Read: ${event.detail.item.title}`;
});

document.querySelector("#send").textContent = `curl -sS ${gateway}/v1/notifications \\
  -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \\
  -d '{"to": {"user": "${user}"}, "channels": ["inbox"],
       "content": {"title": "Your parcel is on its way", "body": "It comes **today**.",
                   "actions": [{"label": "Where is it?", "url": "https://example.com/parcel"}]}}'`;

await import(`${gateway}/inbox/notification-inbox.js`);
