"""Every configuration key, its default and its meaning.

Owns the shape of `gateway.toml`. Knows nothing of files and environment variables: `gateway.config.load` does.
Durations are whole seconds in keys that end in `_s`; rates are written `"50/s"`, `"20/h"`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from gateway.model.states import OnUnknown, Priority, Strategy

_PER_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RATE: Final = re.compile(r"(?P<count>[1-9][0-9]{0,6})/(?P<per>[smhd])")

Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every table of the file shares: unknown keys are refused."""


class Secret:
    """A value that never prints: `str()` and `repr()` show stars; `.reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Hand out the secret, at the one place that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(****)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class Rate(msgspec.Struct, frozen=True):
    """At most `count` in any `per_s` seconds."""

    count: int
    per_s: int

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read `"50/s"`, `"20/m"`, `"20/h"` or `"3/d"`; raises `ValueError` with a sentence for anything else."""
        found = _RATE.fullmatch(text.strip())
        if found is None:
            message = f"{text!r} is not a rate: write a whole number, a slash and s, m, h or d, such as 50/s"
            raise ValueError(message)
        return cls(int(found["count"]), _PER_S[found["per"]])

    def __str__(self) -> str:
        unit = next(letter for letter, seconds in _PER_S.items() if seconds == self.per_s)
        return f"{self.count}/{unit}"


class Environment(StrEnum):
    """Where the gateway runs. Outside production nothing leaves but to what `[staging] allow` names."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


class Otherwise(StrEnum):
    """What becomes of a message that may not leave."""

    CAPTURE = "capture"
    SKIP = "skip"
    REDIRECT = "redirect"


class ServerSettings(Section, frozen=True, kw_only=True):
    """`[server]`: where the API listens and how much the process takes on at once."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    trusted_proxies: list[str] = []
    """Addresses whose `X-Forwarded-*` headers are believed."""
    drain_s: Positive = 20
    """How long a stop waits for what is in flight."""
    lease_s: Positive = 60
    """How long a claim holds without a settlement. Longer than the slowest attempt: a shorter one makes duplicates."""
    poll_s: Annotated[float, Meta(gt=0)] = 1.0
    """How often an idle worker looks for due deliveries; what this process accepts itself is sent without waiting."""
    processes: Annotated[int, Meta(ge=1, le=64)] = 1
    """How many processes `gateway serve` and `gateway work` run. Each has its own rate counts per key."""
    database_connections: Positive = 10
    """PostgreSQL only: connections per process."""


class LimitSettings(Section, frozen=True, kw_only=True):
    """`[limits]`: nothing grows without one."""

    body_bytes: Positive = 1_048_576
    attachment_body_bytes: Positive = 15_728_640
    """Where attachments are allowed."""
    recipients: Positive = 1000
    batch: Positive = 1000
    live: Rate = Rate(10_000, 1)
    """Requests per key and process."""
    team: Rate = Rate(100, 1)
    test: Rate = Rate(1000, 1)
    waiting: Positive = 5_000_000
    """Deliveries that may wait; beyond it sends answer 503."""
    pending_accepts: Positive = 2000
    """Requests that may wait for the store at once in one process; beyond it 503, quickly."""
    connections: Positive = 4096
    """Callers' connections per process. Beyond it, the one that has asked for nothing the longest gives way."""
    captured: Positive = 10_000
    """Captured messages kept; the oldest go first."""


class RetentionSettings(Section, frozen=True, kw_only=True):
    """`[retention]`: how long what is finished stays, in days."""

    notifications_days: Positive = 30
    contents_days: Positive = 7
    """Bodies, variables, attachments and the addresses of deliveries."""
    captured_days: Positive = 7
    inbox_days: Positive = 90
    """What lies in people's inboxes, read or not."""
    idempotency_s: Positive = 86_400
    slice: Positive = 1000
    """Rows deleted at once, so that pruning never holds anybody up."""


class StagingSettings(Section, frozen=True, kw_only=True):
    """`[staging]`: what may leave outside production."""

    allow: list[str] = []
    otherwise: Otherwise = Otherwise.CAPTURE
    redirect: dict[str, str] = {}
    """Per channel, where redirected messages go; e-mail's key is `email`, SMS's `phone`."""


class RetrySettings(Section, frozen=True, kw_only=True):
    """When a delivery is tried again: exponential with jitter, bounded by attempts and by time."""

    attempts: Annotated[int, Meta(ge=1, le=100)] = 8
    first_s: Annotated[float, Meta(gt=0)] = 5
    factor: Annotated[float, Meta(ge=1)] = 3
    most_s: Annotated[float, Meta(gt=0)] = 3600
    budget_s: Positive = 86_400
    """From accept to the last attempt."""


class BreakerSettings(Section, frozen=True, kw_only=True):
    """When a failing provider is left alone for a while."""

    failures: Positive = 5
    """Failures in a row that open it."""
    first_s: Annotated[float, Meta(gt=0)] = 5
    most_s: Annotated[float, Meta(gt=0)] = 120


class SpendSettings(Section, frozen=True, kw_only=True):
    """What a channel may cost: pumping fraud ends at the cap. Amounts are of the operator's own currency."""

    per_day: Annotated[float, Meta(gt=0, le=1_000_000_000)]
    price: Annotated[float, Meta(ge=0, le=1_000_000)]
    """Of one message, or of one segment where the medium has segments (SMS)."""
    prices: dict[str, Annotated[float, Meta(ge=0, le=1_000_000)]] = {}
    """By the beginning of the address: `{ "+49" = 0.08, "+1" = 0.0079 }`. The longest that fits counts."""
    timezone: str = "UTC"
    """Whose midnight begins the next day."""


class ChannelSettings(Section, frozen=True, kw_only=True):
    """`[channels.NAME]`: which providers serve a channel, first to last, and its rules."""

    providers: list[str] = []
    sender: str | None = None
    senders: list[str] = []
    """Further senders that `overrides` may name; patterns as in `[staging] allow`."""
    retry: RetrySettings = RetrySettings()
    breaker: BreakerSettings = BreakerSettings()
    per_recipient: Rate | None = None
    spend: SpendSettings | None = None
    on_unknown: OnUnknown | None = None
    slots: Positive | None = None
    """Deliveries of one lane in hand at once; default: four times the first provider's concurrency."""


class DigestSettings(Section, frozen=True, kw_only=True):
    """Gather what comes within a window, or until a time of day, into one message."""

    window_s: Positive | None = None
    """From the first message on."""
    schedule: str | None = None
    """Instead: `08:00`, or `mon,thu 08:00`, as the person's own clock shows it."""
    timezone: str = "UTC"
    """Whose clock it is where the person's is not known."""
    most: Annotated[int, Meta(ge=1, le=1000)] = 100
    """How many of them the message shows, the newest; it says how many more there were."""


class ThrottleThen(StrEnum):
    """What becomes of what is too much for one person."""

    SKIP = "skip"
    HOLD = "hold"
    DIGEST = "digest"


class ThrottleSettings(Section, frozen=True, kw_only=True):
    """How much of a category one person gets on one channel, and what becomes of the rest."""

    rate: Rate
    then: ThrottleThen = ThrottleThen.SKIP


class KeptSettings(Section, frozen=True, kw_only=True):
    """How long what is finished of one category stays, in days; what is not given is as in `[retention]`."""

    notifications_days: Positive | None = None
    contents_days: Positive | None = None


class CategorySettings(Section, frozen=True, kw_only=True):
    """`[categories.NAME]`: the rules that people's preferences speak about."""

    title: str | dict[str, str] = ""
    """What people see on the preference page, perhaps by language; default: the name, as words."""
    description: str | dict[str, str] = ""
    """A sentence below it, perhaps by language."""
    channels: list[str] | None = None
    strategy: Strategy = Strategy.ALL
    priority: Priority = Priority.NORMAL
    required: bool = False
    unsubscribe: bool = False
    expires_after_s: Positive | None = None
    escalate_after_s: Positive | None = None
    on_unknown: OnUnknown | None = None
    digest: DigestSettings | None = None
    default: bool | dict[str, bool] = True
    """What holds for people who chose nothing, on every channel or by channel: `false` needs their yes."""
    locked: dict[str, bool] = {}
    """By channel: allowed or not, whatever people choose."""
    quiet_hours: bool = True
    """Whether quiet hours hold it back."""
    throttle: ThrottleSettings | None = None
    retention: KeptSettings | None = None


class OutboundSettings(Section, frozen=True, kw_only=True):
    """`[outbound]`: where the gateway itself may connect to."""

    allow_private: list[str] = []
    proxy: str | None = None


class QuietHoursSettings(Section, frozen=True, kw_only=True):
    """`[quiet_hours]`: the default for people who chose none."""

    start: str | None = None
    end: str | None = None
    timezone: str = "UTC"
    """Of people whose time zone is not known."""
    channels: list[str] | None = None
    """Which channels are quiet in quiet hours, a person's own too. Default: all but `inbox`, which rings nowhere."""


class InboxSettings(Section, frozen=True, kw_only=True):
    """`[inbox]`: notifications that services show in their own pages."""

    origins: list[str] = []
    """Pages that may read inboxes from the browser: scheme and host, such as https://app.example.com."""
    streams: Positive = 1000
    """Pages that one process keeps up to date at once; a page beyond it asks now and then instead."""
    streams_per_user: Positive = 10
    rate: Rate = Rate(20, 1)
    """Requests per person and process, with a token."""


class LinkSettings(Section, frozen=True, kw_only=True):
    """`[links]`: how long the links at the foot of a message work, counted from when it can no longer be sent."""

    unsubscribe_days: Annotated[int, Meta(ge=30, le=3650)] = 60
    """Never below 30: so long an opt-out must work after a mail was sent (CAN-SPAM, 15 U.S.C. 7704(a)(3))."""
    preferences_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    """Shorter: these open all of a person's settings."""
    old_keys: list[Secret] = []
    """What `secret_key` was before: links made with these still work."""


class LogFormat(StrEnum):
    """How log lines look; `auto` is readable on a terminal and JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least important line that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LoggingSettings(Section, frozen=True, kw_only=True):
    """`[logging]`."""

    format: LogFormat = LogFormat.AUTO
    level: LogLevel = LogLevel.INFO


class TemplateSettings(Section, frozen=True, kw_only=True):
    """`[templates]`: where templates come from."""

    folder: str | None = None
    """Default: the templates shipped with the gateway."""
    default_locale: str = "en"
    product: str = "Notification gateway"
    """The name at the head and foot of built-in layouts."""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """`[providers.NAME]`: a configured account. `use` and `rate` are the gateway's keys; all others the adapter's."""

    name: str
    use: str
    rate: Rate | None = None
    settings: Any
    """The adapter's own settings, decoded into its `Settings`."""
    secrets: frozenset[str] = frozenset()
    """Which of those were read from a variable or a file (`password`, `headers.token`): never shown."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration, checked."""

    environment: Environment = Environment.DEVELOPMENT
    public_url: str = "http://127.0.0.1:8080"
    database: Secret = Secret("sqlite:///var/gateway.db")
    """`sqlite:///path` (relative to the working folder) or `postgresql://…`: a secret, as it may carry a password."""
    bootstrap_key: Secret | None = None
    secret_key: Secret | None = None
    """Signs links and tokens. Without it one is made and kept beside the database."""
    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    retention: RetentionSettings = RetentionSettings()
    staging: StagingSettings = StagingSettings()
    outbound: OutboundSettings = OutboundSettings()
    quiet_hours: QuietHoursSettings = QuietHoursSettings()
    inbox: InboxSettings = InboxSettings()
    links: LinkSettings = LinkSettings()
    logging: LoggingSettings = LoggingSettings()
    templates: TemplateSettings = TemplateSettings()
    providers: dict[str, Provider] = {}
    channels: dict[str, ChannelSettings] = {}
    categories: dict[str, CategorySettings] = {}
    destinations: dict[str, dict[str, dict[str, Secret | str]]] = {}

    @property
    def is_production(self) -> bool:
        """Whether messages leave to everyone."""
        return self.environment is Environment.PRODUCTION
