/**
 * <notification-inbox user="42" base-url="https://notify.example.com">: a bell, and behind it one person's inbox.
 *
 * No framework, one file. Your page gives it a way to a token that your own back end mints for whoever is signed in:
 *
 *     document.querySelector("notification-inbox").getToken = async () =>
 *       (await (await fetch("/inbox-token", { method: "POST" })).json()).token;
 *
 * Attributes: `user`, `base-url` (default: where this file came from), `lang` (default: the page's), `theme` (`light`,
 * `dark`; default: the reader's). Events: `notification-open` (cancelable; `detail.item`) before an item's or a button's
 * address is followed, `notification-unread` (`detail.unread`). Looks: the custom properties at the head of the style
 * sheet below, and `::part(bell | badge | panel | header | item | title | text | time | action)`.
 *
 * Everything that was sent is shown as text, or as elements made one by one from an allowlist; addresses are http(s).
 */

const SOURCE = new URL(import.meta.url).origin;
const SHOWN = 20;
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
const SILENCE_MS = 60_000; // three heartbeats: the line is dead, whatever the browser thinks
const MINUTE_MS = 60_000;

const TEXTS = {
  en: {
    bell: (n) => (n === 0 ? "Notifications" : `Notifications, ${n} unread`),
    title: "Notifications",
    readAll: "Mark all as read",
    read: (title) => `Mark as read: ${title}`,
    unread: (title) => `Mark as unread: ${title}`,
    archive: (title) => `Archive: ${title}`,
    isUnread: "Unread",
    more: "Show older",
    empty: "Nothing here yet.",
    failed: "The notifications cannot be shown now.",
    again: "Try again",
    close: "Close",
    news: (n, title) => (n === 1 ? `New notification: ${title}` : `${n} new notifications`),
    untitled: "Notification",
  },
  de: {
    bell: (n) => (n === 0 ? "Mitteilungen" : `Mitteilungen, ${n} ungelesen`),
    title: "Mitteilungen",
    readAll: "Alle als gelesen markieren",
    read: (title) => `Als gelesen markieren: ${title}`,
    unread: (title) => `Als ungelesen markieren: ${title}`,
    archive: (title) => `Archivieren: ${title}`,
    isUnread: "Ungelesen",
    more: "Ältere zeigen",
    empty: "Noch nichts da.",
    failed: "Die Mitteilungen können gerade nicht gezeigt werden.",
    again: "Noch einmal versuchen",
    close: "Schließen",
    news: (n, title) => (n === 1 ? `Neue Mitteilung: ${title}` : `${n} neue Mitteilungen`),
    untitled: "Mitteilung",
  },
};

const STYLE = `
  :host {
    --_accent: var(--inbox-accent, #1d4ed8);
    --_on-accent: var(--inbox-on-accent, #ffffff);
    --_background: var(--inbox-background, #ffffff);
    --_unread: var(--inbox-unread-background, #eff4ff);
    --_text: var(--inbox-text, #1a1d24);
    --_muted: var(--inbox-muted, #565d6b);
    --_border: var(--inbox-border, #d7dbe3);
    --_badge: var(--inbox-badge, #b42318);
    --_on-badge: var(--inbox-on-badge, #ffffff);
    --_radius: var(--inbox-radius, 0.75rem);
    display: inline-block; position: relative;
    font: var(--inbox-font, 400 0.9375rem/1.45 system-ui, sans-serif);
  }
  :host([hidden]) { display: none; }
  :host([theme="dark"]) { --_accent: var(--inbox-accent, #9dbcff); --_on-accent: var(--inbox-on-accent, #0c1730);
    --_background: var(--inbox-background, #171a21); --_unread: var(--inbox-unread-background, #1f2838);
    --_text: var(--inbox-text, #e8eaf0); --_muted: var(--inbox-muted, #a8b0bf); --_border: var(--inbox-border, #363c49);
    --_badge: var(--inbox-badge, #ffb4a9); --_on-badge: var(--inbox-on-badge, #4a0d06); color-scheme: dark; }
  @media (prefers-color-scheme: dark) {
    :host(:not([theme="light"])) { --_accent: var(--inbox-accent, #9dbcff); --_on-accent: var(--inbox-on-accent, #0c1730);
      --_background: var(--inbox-background, #171a21); --_unread: var(--inbox-unread-background, #1f2838);
      --_text: var(--inbox-text, #e8eaf0); --_muted: var(--inbox-muted, #a8b0bf); --_border: var(--inbox-border, #363c49);
      --_badge: var(--inbox-badge, #ffb4a9); --_on-badge: var(--inbox-on-badge, #4a0d06); color-scheme: dark; }
  }
  *, *::before { box-sizing: border-box; }
  button, a.action { font: inherit; color: inherit; cursor: pointer; }
  :focus-visible { outline: 0.1875rem solid var(--_accent); outline-offset: 0.125rem; }
  .hidden { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; margin: 0; }
  .bell { position: relative; display: inline-grid; place-items: center; inline-size: 2.75rem; block-size: 2.75rem;
    border: 1px solid transparent; border-radius: 50%; background: var(--inbox-bell-background, transparent); color: var(--inbox-bell, currentcolor); }
  .bell:hover { border-color: currentcolor; }
  .bell svg, .tool svg { inline-size: 1.375rem; block-size: 1.375rem; fill: none; stroke: currentcolor; stroke-width: 1.75; stroke-linecap: round; stroke-linejoin: round; }
  .tool svg { inline-size: 1.125rem; block-size: 1.125rem; }
  .badge { position: absolute; inset-block-start: 0; inset-inline-end: 0; min-inline-size: 1.25rem; padding-inline: 0.3125rem;
    border-radius: 1rem; background: var(--_badge); color: var(--_on-badge); font-size: 0.75rem; font-weight: 700; line-height: 1.25rem; text-align: center; }
  .badge[hidden], .panel[hidden], .more[hidden], .state[hidden] { display: none; }
  .panel { position: absolute; z-index: var(--inbox-layer, 1000); inset-block-start: calc(100% + 0.5rem); inset-inline-end: 0;
    display: flex; flex-direction: column; inline-size: var(--inbox-width, 24rem); max-inline-size: calc(100vw - 1rem);
    max-block-size: min(36rem, 80vh); overflow: hidden; border: 1px solid var(--_border); border-radius: var(--_radius);
    background: var(--_background); color: var(--_text); box-shadow: 0 0.75rem 2.5rem rgb(0 0 0 / 0.22); text-align: start; }
  :host([align="start"]) .panel { inset-inline: 0 auto; }
  @media (max-width: 30rem) {
    .panel, :host([align="start"]) .panel { position: fixed; inset: auto 0.5rem 0.5rem; inline-size: auto; max-block-size: 85vh; }
  }
  .head { display: flex; align-items: center; gap: 0.5rem; padding: 0.75rem 0.5rem 0.75rem 1rem; border-block-end: 1px solid var(--_border); }
  h2 { flex: 1; margin: 0; font-size: 1.0625rem; }
  .plain { padding: 0.375rem 0.5rem; border: 0; border-radius: 0.375rem; background: none; color: var(--_accent); font-weight: 600; }
  .head .plain { text-align: end; }
  .head .tool { flex: none; }
  .plain:hover:not(:disabled) { text-decoration: underline; }
  .plain:disabled { color: var(--_muted); cursor: default; }
  .scroll { overflow-y: auto; overscroll-behavior: contain; }
  ul { margin: 0; padding: 0; list-style: none; }
  li { display: grid; grid-template-columns: 1fr auto; gap: 0.25rem 0.5rem; padding: 0.75rem 0.5rem 0.75rem 1.5rem; position: relative; cursor: pointer; }
  li + li { border-block-start: 1px solid var(--_border); }
  li:focus-visible { outline-offset: -0.1875rem; }
  li.unread { background: var(--_unread); }
  li.unread::before { content: ""; position: absolute; inset-block-start: 1.1875rem; inset-inline-start: 0.625rem; inline-size: 0.5rem; block-size: 0.5rem; border-radius: 50%; background: var(--_accent); }
  h3 { margin: 0; font-size: inherit; font-weight: 600; overflow-wrap: anywhere; }
  .text { color: var(--_text); overflow-wrap: anywhere; }
  .text > * { margin: 0.25rem 0 0; }
  .text pre { overflow-x: auto; }
  .text ul, .text ol { padding-inline-start: 1.25rem; list-style: revert; }
  .text li { display: list-item; padding: 0; border: 0; cursor: inherit; }
  .text h1, .text h2, .text h3, .text h4, .text h5, .text h6 { font-size: inherit; }
  .text a { color: var(--_accent); }
  .text img, .picture { max-inline-size: 100%; max-block-size: 10rem; margin-block-start: 0.5rem; border-radius: 0.5rem; }
  time { color: var(--_muted); font-size: 0.8125rem; }
  .actions { display: flex; flex-wrap: wrap; gap: 0.5rem; margin-block-start: 0.5rem; }
  .actions:empty { display: none; }
  .action { display: inline-block; padding: 0.375rem 0.75rem; border: 1px solid var(--_accent); border-radius: 0.5rem; color: var(--_accent); font-weight: 600; text-decoration: none; }
  .action:first-child { background: var(--_accent); color: var(--_on-accent); }
  .action:hover { text-decoration: underline; }
  .tools { display: flex; flex-direction: column; }
  .tool { display: inline-grid; place-items: center; inline-size: 2rem; block-size: 2rem; padding: 0; border: 0; border-radius: 0.375rem; background: none; color: var(--_muted); }
  .tool:hover { color: var(--_text); }
  .state { margin: 0; padding: 2rem 1rem; color: var(--_muted); text-align: center; }
  .more { display: block; inline-size: 100%; padding: 0.75rem; border-radius: 0; border-block-start: 1px solid var(--_border); }
  @media (prefers-reduced-motion: no-preference) {
    .panel { animation: inbox-in 120ms ease-out; }
    @keyframes inbox-in { from { opacity: 0; transform: translateY(-0.25rem); } }
  }
  @media (forced-colors: active) { .badge { border: 1px solid; } li.unread::before { background: CanvasText; } }
`;

const ICONS = {
  bell: ["M6 9a6 6 0 0 1 12 0c0 5 2 6.5 2 6.5H4S6 14 6 9", "M10 19a2 2 0 0 0 4 0"],
  read: ["M5 12.5l4.5 4.5L19 7.5"],
  unread: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8"],
  archive: ["M4 8h16v11H4z", "M3 4h18v4H3z", "M10 12h4"],
  close: ["M6 6l12 12", "M18 6L6 18"],
};

const TAGS = new Set(
  "A BLOCKQUOTE BR CODE DEL EM H1 H2 H3 H4 H5 H6 HR IMG LI OL P PRE S STRONG TABLE TBODY TD TH THEAD TR UL".split(" "),
);

/** Make an element with attributes and children; text becomes text nodes. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  for (const line of ICONS[name]) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", line);
    svg.append(path);
  }
  return svg;
}

/** Give the address if it may be followed or loaded, or null. */
function address(text, schemes = ["http:", "https:"]) {
  try {
    const url = new URL(text);
    return schemes.includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

const parseHtml = (() => {
  let policy;
  try {
    // What is parsed is never put into the page: its nodes are read, and others are made.
    policy = window.trustedTypes?.createPolicy("notification-inbox", { createHTML: (text) => text });
  } catch {
    return () => null; // the page forbids it, and shows the text
  }
  return (html) => new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, "text/html").body;
})();

/** Copy what may be shown; anything else becomes its own text, or nothing. */
function copied(node) {
  if (node.nodeType === Node.TEXT_NODE) return document.createTextNode(node.data);
  if (node.nodeType !== Node.ELEMENT_NODE || ["SCRIPT", "STYLE", "TEMPLATE"].includes(node.tagName)) return null;
  const children = [...node.childNodes].map(copied).filter(Boolean);
  if (!TAGS.has(node.tagName)) {
    const rest = document.createDocumentFragment();
    rest.append(...children);
    return rest;
  }
  if (node.tagName === "IMG") {
    const src = address(node.getAttribute("src"), ["https:"]);
    return src && make("img", { src, alt: node.getAttribute("alt") ?? "", loading: "lazy", referrerpolicy: "no-referrer" });
  }
  const link = node.tagName === "A" && address(node.getAttribute("href"), ["http:", "https:", "mailto:"]);
  return make(
    node.tagName,
    link ? { href: link, rel: "noopener noreferrer" } : { start: node.tagName === "OL" && node.getAttribute("start") },
    ...children,
  );
}

class NotificationInbox extends HTMLElement {
  static observedAttributes = ["user", "base-url", "lang"];

  #items = new Map();
  #cursor = null;
  #unread = 0;
  #state = "idle"; // idle | loading | ready | failed
  #token = null;
  #getToken = null;
  #stop = null;
  #lastEvent = null;
  #parts = {};
  #current = null;
  #clock = null;
  #starting = false;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    this.#build(root);
  }

  // What the page says.

  /** How to get a token: `async () => "ntfi_…"`. Asked at the start, and again when a token has ended. */
  get getToken() {
    return this.#getToken;
  }

  set getToken(ask) {
    this.#getToken = ask;
    this.#token = null;
    this.#restart();
  }

  /** How many items are unread. */
  get unread() {
    return this.#unread;
  }

  connectedCallback() {
    if (Object.hasOwn(this, "getToken")) {
      // Set before this file was there: the accessor takes it over.
      const ask = this.getToken;
      delete this.getToken;
      this.#getToken = ask;
    }
    document.addEventListener("pointerdown", this.#outside);
    document.addEventListener("visibilitychange", this.#inSight);
    this.#clock = setInterval(() => this.#tellTimes(), MINUTE_MS);
    this.#relabel();
    this.#restart();
  }

  disconnectedCallback() {
    document.removeEventListener("pointerdown", this.#outside);
    document.removeEventListener("visibilitychange", this.#inSight);
    clearInterval(this.#clock);
    this.#stop?.abort();
    this.#stop = null;
  }

  attributeChangedCallback(name, before, after) {
    if (before === after || !this.isConnected) return;
    if (name === "lang") {
      this.#relabel();
      this.#render();
    } else {
      this.#token = null;
      this.#restart();
    }
  }

  /** Show the panel. */
  open() {
    if (!this.#parts.panel.hidden) return;
    this.#parts.panel.hidden = false;
    this.#parts.bell.setAttribute("aria-expanded", "true");
    this.#tellTimes();
    (this.#row(this.#current) ?? this.#parts.heading).focus();
    this.#markSeen();
  }

  /** Hide it; the focus goes back to the bell if it was inside. */
  close() {
    if (this.#parts.panel.hidden) return;
    const inside = this.#parts.panel.contains(this.shadowRoot.activeElement);
    this.#parts.panel.hidden = true;
    this.#parts.bell.setAttribute("aria-expanded", "false");
    if (inside) this.#parts.bell.focus();
  }

  // The gateway.

  get #base() {
    const user = encodeURIComponent(this.getAttribute("user") ?? "");
    return `${(this.getAttribute("base-url") || SOURCE).replace(/\/+$/, "")}/v1/users/${user}/inbox`;
  }

  async #call(path, { method = "GET", body, headers = {}, signal } = {}) {
    for (let attempt = 0; ; attempt += 1) {
      this.#token ??= await this.#askToken();
      const answer = await fetch(this.#base + path, {
        method,
        signal: signal ?? this.#stop?.signal,
        cache: "no-store",
        credentials: "omit",
        referrerPolicy: "no-referrer",
        headers: {
          Authorization: `Bearer ${this.#token}`,
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      if (answer.status === 401 && attempt === 0) this.#token = null;
      else if (answer.ok) return answer;
      else throw Object.assign(new Error(`The inbox answered ${answer.status}.`), { status: answer.status });
    }
  }

  async #askToken() {
    const given = await this.#getToken();
    return typeof given === "string" ? given : given.token;
  }

  #restart() {
    if (this.#starting) return;
    this.#starting = true;
    queueMicrotask(() => {
      this.#starting = false;
      this.#stop?.abort();
      this.#stop = null;
      this.#items.clear();
      this.#cursor = this.#lastEvent = null;
      this.#tell(0);
      if (!this.isConnected || !this.#getToken || !this.getAttribute("user")) return;
      this.#stop = new AbortController();
      this.#load();
      this.#watch(this.#stop.signal);
    });
  }

  async #load({ older = false } = {}) {
    const stop = this.#stop;
    if (!older) this.#state = this.#items.size ? this.#state : "loading";
    try {
      const from = older && this.#cursor ? `&cursor=${encodeURIComponent(this.#cursor)}` : "";
      const page = await (await this.#call(`?limit=${SHOWN}${from}`)).json();
      if (stop !== this.#stop) return;
      if (!older) this.#items.clear();
      for (const item of page.items) this.#items.set(item.id, item);
      this.#cursor = page.next_cursor;
      this.#state = "ready";
      this.#tell(page.unread);
    } catch {
      if (stop !== this.#stop || !stop) return;
      this.#state = "failed";
    }
    this.#render();
    this.#markSeen();
  }

  /** Keep a stream open until stopped; between two attempts it waits, ever longer and never in step with others. */
  async #watch(stop) {
    let failures = 0;
    while (!stop.aborted) {
      try {
        await this.#stream(stop, () => (failures = 0));
      } catch {
        // What went wrong shows in what follows: another attempt, and a list that is asked for again.
      }
      if (stop.aborted) return;
      const most = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** failures);
      failures += 1;
      await new Promise((resolve) => {
        setTimeout(resolve, most / 4 + Math.random() * most * 0.75);
        stop.addEventListener("abort", resolve, { once: true });
      });
      if (!stop.aborted && failures > 1) await this.#load(); // without a stream, ask now and then
    }
  }

  async #stream(stop, alive) {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENCE_MS);
    try {
      const answer = await this.#call("/events", {
        headers: this.#lastEvent === null ? {} : { "Last-Event-ID": this.#lastEvent },
        signal: AbortSignal.any([stop, silence.signal]),
      });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE_MS);
        alive();
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) this.#hear(event);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #hear(event) {
    const said = Object.fromEntries(
      event.split("\n").filter((line) => line && !line.startsWith(":")).map((line) => line.split(/: ?(.*)/s, 2)),
    );
    if (!said.event) return;
    const first = this.#lastEvent === null;
    this.#lastEvent = said.id ?? this.#lastEvent;
    const news = JSON.parse(said.data);
    if (said.event === "reset" || (said.event === "ready" && first)) this.#load();
    if (said.event === "change") this.#change(news);
    else this.#tell(news.unread);
  }

  #change({ items, removed, unread }) {
    const fresh = items.filter((item) => !item.archived_at && !item.read_at && !item.seen_at && !this.#items.has(item.id));
    for (const id of removed) this.#items.delete(id);
    for (const item of items) {
      if (item.archived_at) this.#items.delete(item.id);
      else if (this.#items.has(item.id) || fresh.includes(item)) this.#items.set(item.id, item);
    }
    const newest = [...this.#items.values()].sort((one, other) => (one.created_at < other.created_at ? 1 : -1));
    this.#items = new Map(newest.map((item) => [item.id, item]));
    this.#tell(unread);
    this.#render();
    if (fresh.length) {
      this.#parts.status.textContent = this.#words.news(fresh.length, this.#titleOf(fresh[0]));
      this.#markSeen();
    }
  }

  // What the reader does.

  async #mark(item, act) {
    const now = new Date().toISOString();
    const before = { ...item };
    if (act === "read" || act === "acknowledge") item.read_at ??= now;
    if (act === "unread") item.read_at = null;
    if (act === "archive") this.#takeOut(item);
    this.#tell(Math.max(0, this.#unread + (before.read_at ? 1 : 0) - (item.read_at || act === "archive" ? 1 : 0)));
    this.#render();
    try {
      const { item: kept, unread } = await (await this.#call(`/${item.id}/${act}`, { method: "POST" })).json();
      if (!kept.archived_at) this.#items.set(kept.id, kept);
      this.#tell(unread);
      this.#render();
    } catch {
      await this.#load(); // what was shown too early is put right
    }
  }

  #takeOut(item) {
    const ids = [...this.#items.keys()];
    const place = ids.indexOf(item.id);
    const held = this.#row(item.id)?.contains(this.shadowRoot.activeElement);
    this.#items.delete(item.id);
    this.#current = ids[place + 1] ?? ids[place - 1] ?? null;
    this.#render();
    if (held) (this.#row(this.#current) ?? this.#parts.heading).focus();
  }

  async #markAll(act) {
    const newest = this.#items.keys().next().value;
    if (!newest) return;
    try {
      const { unread } = await (await this.#call(`/${act}`, { method: "POST", body: { up_to: newest } })).json();
      const now = new Date().toISOString();
      for (const item of this.#items.values()) {
        item.seen_at ??= now;
        if (act === "read") item.read_at ??= now;
      }
      this.#tell(unread);
      this.#render();
    } catch {
      await this.#load();
    }
  }

  /** Say what is in sight; nothing is while the panel is closed or the page is in the background. */
  #markSeen() {
    if (this.#parts.panel.hidden || document.visibilityState !== "visible") return;
    if ([...this.#items.values()].some((item) => !item.seen_at)) this.#markAll("seen");
  }

  /** Mark an item read and go where it leads, unless the page says that it will. */
  #openItem(item, url = item.url, act = "read") {
    if (act === "acknowledge" || !item.read_at) this.#mark(item, act);
    const event = new CustomEvent("notification-open", {
      detail: { item: structuredClone(item), url },
      bubbles: true,
      composed: true,
      cancelable: true,
    });
    const target = url && address(url);
    if (this.dispatchEvent(event) && target) window.open(target, "_blank", "noopener,noreferrer");
  }

  // What is shown.

  get #lang() {
    const wanted = this.getAttribute("lang") || this.closest("[lang]")?.lang || document.documentElement.lang || navigator.language;
    return wanted || "en";
  }

  get #words() {
    return TEXTS[this.#lang.slice(0, 2).toLowerCase()] ?? TEXTS.en;
  }

  #titleOf(item) {
    return item.title || item.text?.slice(0, 80) || this.#words.untitled;
  }

  #build(root) {
    const badge = make("span", { class: "badge", part: "badge", "aria-hidden": "true", hidden: true });
    const bell = make(
      "button",
      { class: "bell", part: "bell", type: "button", "aria-haspopup": "dialog", "aria-expanded": "false", "aria-controls": "panel" },
      icon("bell"),
      badge,
    );
    const heading = make("h2", { id: "heading", tabindex: "-1" });
    const readAll = make("button", { class: "plain", type: "button" });
    const closing = make("button", { class: "tool", type: "button" }, icon("close"));
    const list = make("ul", { role: "list", "aria-labelledby": "heading" });
    const state = make("div", { class: "state" });
    const more = make("button", { class: "plain more", type: "button", hidden: true });
    const status = make("p", { class: "hidden", role: "status", "aria-live": "polite" });
    const panel = make(
      "section",
      { class: "panel", part: "panel", id: "panel", role: "dialog", "aria-labelledby": "heading", hidden: true },
      make("div", { class: "head", part: "header" }, heading, readAll, closing),
      make("div", { class: "scroll" }, list, state, more),
    );
    this.#parts = { badge, bell, heading, readAll, closing, list, state, more, status, panel };
    bell.addEventListener("click", () => (panel.hidden ? this.open() : this.close()));
    readAll.addEventListener("click", () => this.#markAll("read"));
    closing.addEventListener("click", () => this.close());
    more.addEventListener("click", () => this.#showOlder());
    panel.addEventListener("keydown", (event) => this.#onKey(event));
    panel.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !this.shadowRoot.contains(event.relatedTarget)) this.close();
    });
    root.append(bell, panel, status);
  }

  async #showOlder() {
    const last = [...this.#items.keys()].pop();
    await this.#load({ older: true });
    const ids = [...this.#items.keys()];
    this.#focus(ids[ids.indexOf(last) + 1] ?? last);
  }

  #relabel() {
    const words = this.#words;
    this.#parts.panel.lang = this.#lang;
    this.#parts.heading.textContent = words.title;
    this.#parts.readAll.textContent = words.readAll;
    this.#parts.closing.setAttribute("aria-label", words.close);
    this.#parts.more.textContent = words.more;
    this.#tell(this.#unread);
  }

  #tell(unread) {
    const changed = unread !== this.#unread;
    this.#unread = unread;
    const { badge, bell, readAll } = this.#parts;
    badge.hidden = unread === 0;
    badge.textContent = unread > 99 ? "99+" : String(unread);
    bell.setAttribute("aria-label", this.#words.bell(unread));
    readAll.disabled = unread === 0;
    if (changed) {
      this.dispatchEvent(new CustomEvent("notification-unread", { detail: { unread }, bubbles: true, composed: true }));
    }
  }

  #render() {
    const { list, state, more } = this.#parts;
    const focused = this.shadowRoot.activeElement;
    const held = focused?.closest?.("li[data-id]")?.dataset.id;
    const tool = focused?.dataset?.tool;
    const now = Date.now();
    for (const item of this.#items.values()) {
      if (item.expires_at && Date.parse(item.expires_at) <= now) this.#items.delete(item.id);
    }
    if (!this.#items.has(this.#current)) this.#current = this.#items.keys().next().value ?? null;
    list.replaceChildren(...[...this.#items.values()].map((item) => this.#rowOf(item)));
    list.hidden = this.#items.size === 0;
    more.hidden = !this.#cursor;
    state.hidden = this.#items.size > 0 || this.#state === "loading" || this.#state === "idle";
    state.replaceChildren(...this.#stateOf());
    if (held) (this.#row(held)?.querySelector(tool ? `[data-tool="${tool}"]` : null) ?? this.#row(held))?.focus();
  }

  #stateOf() {
    if (this.#state !== "failed") return [this.#words.empty];
    const again = make("button", { class: "plain", type: "button" }, this.#words.again);
    again.addEventListener("click", () => this.#load());
    return [make("p", {}, this.#words.failed), again];
  }

  #rowOf(item) {
    const title = this.#titleOf(item);
    const words = this.#words;
    const own = `t-${item.id}`;
    const row = make(
      "li",
      {
        class: item.read_at ? null : "unread",
        part: item.read_at ? "item" : "item item-unread",
        "data-id": item.id,
        tabindex: item.id === this.#current ? "0" : "-1",
        "aria-labelledby": item.read_at ? own : `u-${item.id} ${own}`,
      },
      make(
        "div",
        {},
        item.read_at ? null : make("span", { class: "hidden", id: `u-${item.id}` }, words.isUnread),
        make("h3", { id: own, part: "title" }, title),
        this.#bodyOf(item),
        this.#pictureOf(item),
        make("time", { part: "time", datetime: item.created_at }, this.#ago(item.created_at)),
        make("div", { class: "actions" }, ...item.actions.map((action) => this.#actionOf(item, action))),
      ),
      make(
        "div",
        { class: "tools" },
        this.#toolOf(item, item.read_at ? "unread" : "read", (item.read_at ? words.unread : words.read)(title)),
        this.#toolOf(item, "archive", words.archive(title)),
      ),
    );
    row.addEventListener("click", (event) => {
      if (!event.target.closest("a, button") && !document.getSelection()?.toString()) this.#openItem(item);
    });
    row.addEventListener("focusin", () => {
      this.#row(this.#current)?.setAttribute("tabindex", "-1");
      this.#current = item.id;
      row.setAttribute("tabindex", "0");
    });
    return row;
  }

  #bodyOf(item) {
    const text = make("div", { class: "text", part: "text" });
    const parsed = item.html ? parseHtml(item.html) : null;
    if (parsed) text.append(...[...parsed.childNodes].map(copied).filter(Boolean));
    else text.append(item.text ?? "");
    for (const link of text.querySelectorAll("a[href]")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        this.#openItem(item, link.href);
      });
    }
    return text;
  }

  #pictureOf(item) {
    const src = item.image_url && address(item.image_url);
    return src ? make("img", { class: "picture", src, alt: "", loading: "lazy", referrerpolicy: "no-referrer" }) : null;
  }

  #actionOf(item, action) {
    const href = address(action.url);
    if (!href) return null;
    const link = make("a", { class: "action", part: "action", href, rel: "noopener noreferrer" }, action.label);
    link.addEventListener("click", (event) => {
      event.preventDefault();
      this.#openItem(item, href, "acknowledge");
    });
    return link;
  }

  #toolOf(item, act, label) {
    const button = make("button", { class: "tool", type: "button", "data-tool": act === "archive" ? "archive" : "read", "aria-label": label, title: label }, icon(act));
    button.addEventListener("click", () => this.#mark(item, act));
    return button;
  }

  #ago(created) {
    const seconds = Math.min(0, Math.round((Date.parse(created) - Date.now()) / 1000));
    const steps = [["minute", 60], ["hour", 3600], ["day", 86_400], ["week", 604_800], ["month", 2_629_800], ["year", 31_557_600]];
    const [unit, size] = steps.findLast(([, size]) => -seconds >= size) ?? ["second", 1];
    const spoken = new Intl.RelativeTimeFormat(this.#lang, { numeric: "auto" });
    return spoken.format(unit === "second" ? 0 : Math.trunc(seconds / size), unit);
  }

  #tellTimes() {
    for (const time of this.#parts.list.querySelectorAll("time[part]")) time.textContent = this.#ago(time.dateTime);
  }

  // Keys.

  #onKey(event) {
    if (event.key === "Escape") {
      event.stopPropagation();
      this.close();
      return;
    }
    const ids = [...this.#items.keys()];
    const place = ids.indexOf(this.#current);
    const onRow = event.target.matches("li[data-id]");
    const steps = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: ids.length - 1 };
    if (event.key in steps && (onRow || event.target === this.#parts.heading)) {
      event.preventDefault();
      this.#focus(ids[onRow ? Math.max(0, Math.min(ids.length - 1, steps[event.key])) : 0]);
    } else if (onRow && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      this.#openItem(this.#items.get(this.#current));
    } else if (onRow && event.key === "Delete") {
      event.preventDefault();
      this.#mark(this.#items.get(this.#current), "archive");
    }
  }

  #row(id) {
    return id && this.#parts.list.querySelector(`li[data-id="${CSS.escape(id)}"]`);
  }

  #focus(id) {
    this.#row(id)?.focus();
  }

  #inSight = () => this.#markSeen();

  #outside = (event) => {
    if (!event.composedPath().includes(this)) this.close();
  };
}

if (!customElements.get("notification-inbox")) customElements.define("notification-inbox", NotificationInbox);
