"""What the types of the configuration cannot say: names that must exist, addresses, patterns, keys that go together.

Pure but for two looks at the machine: whether a folder exists and whether a time zone is known. A fault is a path and
a sentence.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from gateway.config.database_url import split_hosts, with_host
from gateway.config.settings import (
    CategorySettings,
    ChannelSettings,
    DigestSettings,
    Environment,
    Otherwise,
    OutboundSettings,
    QuietHoursSettings,
    Secret,
    ServerSettings,
    Settings,
    StagingSettings,
    TemplateSettings,
    ThrottleThen,
)
from gateway.model import inbox
from gateway.model.addresses import (
    NOT_ADDRESSES,
    AddressFault,
    locale_fault,
    normalise_email,
    normalise_phone,
    parse_mailbox,
    recipient_key,
    timezone_fault,
)
from gateway.model.collect import child, suggestion
from gateway.model.inbox import INBOX
from gateway.model.patterns import parse_pattern
from gateway.model.schedule import Schedule
from gateway.model.states import Priority, Strategy

Found = Iterator[tuple[str, str]]

CHANNELS: Final = ("email", "sms", "slack", "discord", "web_push", "mobile_push", "webhook", "inbox")
"""The media the gateway itself speaks of; an adapter from elsewhere may bring another."""
DESTINATION_KEYS: Final[Mapping[str, Sequence[str]]] = {
    "slack": ("webhook", "channel"),
    "discord": ("webhook",),
    "teams": ("webhook",),
    "telegram": ("chat",),
    "webhook": ("url",),
}
"""What the address behind a configured destination is called. Channels from elsewhere have words of their own."""
KEY_LEAST: Final = 32
"""Characters of a bootstrap or signing key; `API.md` promises it of the first."""
RESERVED_PROVIDERS: Final = frozenset({"simulator", "event-webhooks", inbox.PROVIDER})
"""Names in the ledger that are no configured account."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}").fullmatch
_NAME_WORDS: Final = "A name is made of lower-case letters, digits, hyphens and underscores (at most 63)."
_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,62}").fullmatch
_CLOCK: Final = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]").fullmatch


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What the file names, whether or not it could be read: a broken provider is not also an unknown one.

    `providers` gives each one's channel, `None` while it is not known; `extra_channels` asks every installed adapter,
    and is asked only about a name that is not the gateway's own.
    """

    providers: Mapping[str, str | None]
    extra_channels: Callable[[], Collection[str]]


def check(settings: Settings, names: Names) -> Found:
    """Find every fault of a configuration whose types are right."""
    yield from _check_top(settings)
    yield from _check_server(settings.server)
    yield from _check_staging(settings.staging)
    yield from _check_outbound(settings.outbound)
    yield from _check_quiet_hours(settings.quiet_hours, names)
    yield from _check_origins(settings.inbox.origins)
    yield from _check_templates(settings.templates)
    for name in names.providers:
        yield from _check_provider_name(name)
    for name, channel in settings.channels.items():
        yield from _check_channel(name, channel, names)
    for name, category in settings.categories.items():
        yield from _check_category(name, category, names)
    for channel, destinations in settings.destinations.items():
        yield from _check_channel_name(channel, names, child("destinations", channel))
        for name in destinations:
            if not _NAME(name):
                yield child(child("destinations", channel), name), _NAME_WORDS


def _check_top(settings: Settings) -> Found:
    yield from _check_url(settings.public_url, "public_url")
    yield from _check_database(settings.database)
    for name, key in (("bootstrap_key", settings.bootstrap_key), ("secret_key", settings.secret_key)):
        if key is not None and len(key.reveal()) < KEY_LEAST:
            yield name, f"Must be at least {KEY_LEAST} characters long."
    for index, key in enumerate(settings.links.old_keys):
        if len(key.reveal()) < KEY_LEAST:
            yield f"links.old_keys[{index}]", f"Must be at least {KEY_LEAST} characters long."
    shared = settings.database.reveal().startswith("postgresql")
    if shared and settings.secret_key is None and settings.environment is not Environment.DEVELOPMENT:
        yield "secret_key", "Needed with PostgreSQL: every process must sign links with the same one."


def _split(url: str) -> SplitResult | None:
    """Split a URL whose host and port can be read; `None` for any other."""
    try:
        parts = urlsplit(url)
        readable = parts.hostname is not None and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return parts if readable and url.isprintable() and " " not in url else None


def _check_url(url: str, path: str) -> Found:
    parts = _split(url)
    if parts is None or parts.scheme not in {"http", "https"}:
        yield path, "Must be an http or https URL, such as https://notify.example.com."
    elif parts.username is not None or parts.query or parts.fragment:
        yield path, "Must have no user name, query or fragment."


def _check_database(database: Secret) -> Found:
    """Judge the form of the database URL; no word of it is repeated, as it may hold a password."""
    url = database.reveal()
    scheme = url.partition(":")[0]
    if scheme == "sqlite":
        file = url.removeprefix("sqlite:///")
        if file == url or not file or file == ":memory:":
            yield "database", "A SQLite database is a file: sqlite:///var/gateway.db, or sqlite:////srv/gateway.db."
    elif scheme != "postgresql":
        hint = " (not postgres://)" if scheme.startswith("postgres") else ""
        yield "database", f"Must begin with sqlite:/// or postgresql://{hint}."
    else:
        _, hosts = split_hosts(url)
        if not all(_is_dialable(with_host(url, host)) and (host or len(hosts) == 1) for host in hosts):
            yield "database", "Must be postgresql://user:password@host/database; %-encode marks in the password."


def _is_dialable(url: str) -> bool:
    """Say whether a database and, where there is one, a port can be read from a URL with one host."""
    try:
        parts = urlsplit(url)
        return bool(parts.path.strip("/")) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _check_server(server: ServerSettings) -> Found:
    if not server.host.strip():
        yield "server.host", "Must be an address or a host name; 0.0.0.0 listens on all."
    yield from _check_networks(server.trusted_proxies, "server.trusted_proxies")


def _check_networks(networks: Sequence[str], path: str) -> Found:
    for index, network in enumerate(networks):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield f"{path}[{index}]", "Must be an IP address or a network such as 10.1.2.0/24 (host bits zero)."


def _check_staging(staging: StagingSettings) -> Found:
    for index, pattern in enumerate(staging.allow):
        yield from _check_pattern(pattern, f"staging.allow[{index}]")
    if staging.otherwise is Otherwise.REDIRECT and not staging.redirect:
        yield "staging.redirect", 'Is needed where otherwise = "redirect": say where to, such as { email = … }.'
    for key, target in staging.redirect.items():
        path = child("staging.redirect", key)
        try:
            if key == "email":
                normalise_email(target)
            elif key == recipient_key("sms"):
                normalise_phone(target)
            elif key == "sms":
                yield path, "The key is phone, as in a recipient."
            elif not target.strip():
                yield path, "Must not be empty."
        except AddressFault as fault:
            yield path, fault.message


def _check_pattern(pattern: str, path: str) -> Found:
    try:
        parse_pattern(pattern)
    except ValueError as fault:
        yield path, f"{fault}."


def _check_outbound(outbound: OutboundSettings) -> Found:
    yield from _check_networks(outbound.allow_private, "outbound.allow_private")
    if outbound.proxy is not None:
        parts = _split(outbound.proxy)
        if parts is None or parts.scheme not in {"http", "https"}:
            yield "outbound.proxy", "Must be an http or https URL, such as http://proxy.example.com:3128."


def _check_quiet_hours(quiet: QuietHoursSettings, names: Names) -> Found:
    for name, clock in (("start", quiet.start), ("end", quiet.end)):
        if clock is not None and not _CLOCK(clock):
            yield f"quiet_hours.{name}", "Must be a time of day such as 22:00."
    if (quiet.start is None) != (quiet.end is None):
        missing = "start" if quiet.start is None else "end"
        yield f"quiet_hours.{missing}", "Quiet hours need both a start and an end."
    elif quiet.start is not None and quiet.start == quiet.end:
        yield "quiet_hours.end", "Must differ from start."
    if (fault := timezone_fault(quiet.timezone)) is not None:
        yield "quiet_hours.timezone", fault
    yield from _check_repeats(quiet.channels or (), "quiet_hours.channels")
    for index, channel in enumerate(quiet.channels or ()):
        yield from _check_channel_name(channel, names, f"quiet_hours.channels[{index}]")


def _check_origins(origins: Sequence[str]) -> Found:
    for index, origin in enumerate(origins):
        parts = _split(origin)
        if parts is None or parts.scheme not in {"http", "https"} or f"{parts.scheme}://{parts.netloc}" != origin:
            yield f"inbox.origins[{index}]", "Must be a page's origin, such as https://app.example.com: no path."
    yield from _check_repeats(origins, "inbox.origins")


def _check_templates(templates: TemplateSettings) -> Found:
    if templates.folder is not None and not Path(templates.folder).is_dir():
        yield "templates.folder", f"There is no folder {templates.folder}."
    if (fault := locale_fault(templates.default_locale)) is not None:
        yield "templates.default_locale", fault


def _check_provider_name(name: str) -> Found:
    if not _NAME(name):
        yield child("providers", name), _NAME_WORDS
    elif name in RESERVED_PROVIDERS:
        yield child("providers", name), "This name is the gateway's own: choose another."


def _check_channel_name(name: str, names: Names, path: str) -> Found:
    if name in CHANNELS:
        return
    if name not in names.providers.values():
        known = sorted({*CHANNELS, *names.extra_channels()})
        if name not in known:
            yield path, f"There is no channel {name}{suggestion(name, known)}"
            return
    if not _KEY(name) or name in NOT_ADDRESSES:
        yield path, f"A recipient cannot have {name} as the key of an address: its adapter must call it otherwise."


def _check_channel(name: str, channel: ChannelSettings, names: Names) -> Found:
    path = child("channels", name)
    yield from _check_channel_name(name, names, path)
    yield from _check_repeats(channel.providers, f"{path}.providers")
    for index, provider in enumerate(channel.providers):
        here = f"{path}.providers[{index}]"
        if provider not in names.providers:
            yield here, f"There is no provider {provider}{suggestion(provider, list(names.providers))}"
        elif (kind := names.providers[provider]) not in {None, name}:
            yield here, f"The provider {provider} serves the channel {kind}, not {name}."
    if name == INBOX and channel.providers:
        yield f"{path}.providers", "Must be empty: the inbox is the gateway's own, and has no providers."
    if channel.retry.most_s < channel.retry.first_s:
        yield f"{path}.retry.most_s", "Must not be less than first_s."
    if channel.breaker.most_s < channel.breaker.first_s:
        yield f"{path}.breaker.most_s", "Must not be less than first_s."
    if channel.spend is not None and (fault := timezone_fault(channel.spend.timezone)) is not None:
        yield f"{path}.spend.timezone", fault
    if name == "email":
        yield from _check_senders(channel, path)


def _check_senders(channel: ChannelSettings, path: str) -> Found:
    if channel.sender is None and channel.providers:
        yield f"{path}.sender", 'Is needed: who the messages are from, such as "Shop <no-reply@example.com>".'
    if channel.sender is not None:
        try:
            parse_mailbox(channel.sender)
        except AddressFault as fault:
            yield f"{path}.sender", fault.message
    for index, pattern in enumerate(channel.senders):
        yield from _check_pattern(pattern, f"{path}.senders[{index}]")


def _check_repeats(listed: Sequence[str], path: str) -> Found:
    for index, name in enumerate(listed):
        if name in listed[:index]:
            yield f"{path}[{index}]", f"{name} is listed twice."


def _check_category(name: str, category: CategorySettings, names: Names) -> Found:
    path = child("categories", name)
    if not _NAME(name):
        yield path, _NAME_WORDS
    if name == "default" and category.required:
        yield f"{path}.required", "The default category is never required: name the messages that nobody may refuse."
    yield from _check_cells(name, category, names)
    yield from _check_throttle(category, path)
    if category.digest is not None:
        yield from _check_digest(category, category.digest, f"{path}.digest")
    if category.channels is None:
        return
    if not category.channels:
        yield f"{path}.channels", "Must not be empty: leave it out for every channel that has a provider."
    yield from _check_repeats(category.channels, f"{path}.channels")
    for index, channel in enumerate(category.channels):
        yield from _check_channel_name(channel, names, f"{path}.channels[{index}]")


def _check_cells(name: str, category: CategorySettings, names: Names) -> Found:
    """Check what a category says by channel."""
    path = child("categories", name)
    by_default = category.default if isinstance(category.default, dict) else {}
    for key, cells in (("default", by_default), ("locked", category.locked)):
        for channel in cells:
            yield from _check_channel_name(channel, names, child(f"{path}.{key}", channel))
    for channel, allowed in category.locked.items():
        if not allowed:
            continue
        if name == "default":
            yield child(f"{path}.locked", channel), "The default category is never required, on no channel."
        elif category.unsubscribe:
            yield child(f"{path}.locked", channel), "Cannot be locked on: unsubscribe = true lets people leave it."


def _check_throttle(category: CategorySettings, path: str) -> Found:
    if category.throttle is None:
        return
    if category.required or category.priority is Priority.CRITICAL:
        yield f"{path}.throttle", "A required or critical category is never throttled: nobody may miss its messages."
    if category.throttle.then is ThrottleThen.DIGEST and category.digest is None:
        yield f"{path}.throttle.then", "Needs a digest: say when, such as digest = { window_s = 3600 }."


def _check_digest(category: CategorySettings, digest: DigestSettings, path: str) -> Found:
    if (digest.window_s is None) is (digest.schedule is None):
        yield (
            path,
            "Give either window_s or schedule: a digest is sent some time after its first message, or at a time.",
        )
    if digest.schedule is not None:
        try:
            Schedule.parse(digest.schedule)
        except ValueError as fault:
            yield f"{path}.schedule", f"{fault}."
    if (fault := timezone_fault(digest.timezone)) is not None:
        yield f"{path}.timezone", fault
    if category.priority is Priority.CRITICAL:
        yield path, "A critical category does not wait for a digest."
    if category.strategy is Strategy.ESCALATE:
        yield path, "What escalates until somebody notices does not wait for a digest."
    expires, window = category.expires_after_s, digest.window_s
    if expires is not None and window is not None and expires <= window:
        yield f"{path}.window_s", "Must be shorter than expires_after_s, or nothing would ever be sent."
