"""Figures for Prometheus: how much comes in, what becomes of it, how long things take and what waits.

Owns the names of the figures, which dashboards are built on. Each `Metrics` has a registry of its own, so two gateways
in one process do not mix. Label values come from small closed sets: never an address, an id or a raw path.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

import gateway

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_MS_PER_S: Final = 1000
_ATTEMPT_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""From a relay on the same machine to the minute after which an answer counts as lost."""
_REQUEST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
_IN_USE: Final = frozenset({"ok", "recovering"})
_BATCH: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


class Depth(Protocol):
    """How much waits in a lane (`gateway.storage.contract.LaneDepth`); times in Unix milliseconds."""

    @property
    def lane(self) -> str:
        """Name it, such as `email:normal`."""
        ...

    @property
    def waiting(self) -> int:
        """Count all that waits."""
        ...

    @property
    def due(self) -> int:
        """Count what is due now."""
        ...

    @property
    def oldest_due_at(self) -> int | None:
        """Tell since when the longest overdue one has been due."""
        ...


class _Requests(Collector):
    """Counts and times requests. The library's own figures take locks and a search, several times for each request."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}
        self._times: dict[tuple[str, str], list[int]] = {}
        self._sums: dict[tuple[str, str], float] = {}

    def note(self, route: str, method: str, status: int, took_s: float) -> None:
        """Note one answered request."""
        counted, timed = (route, method, status), (route, method)
        times = self._times.get(timed)
        if times is None:
            times = self._times[timed] = [0] * (len(_REQUEST_S) + 1)
        times[bisect_left(_REQUEST_S, took_s)] += 1
        self._counts[counted] = self._counts.get(counted, 0) + 1
        self._sums[timed] = self._sums.get(timed, 0.0) + took_s

    def collect(self) -> Iterable[CounterMetricFamily | HistogramMetricFamily]:
        """Show them."""
        counts = CounterMetricFamily("gateway_http_requests", "Requests answered", labels=("route", "method", "status"))
        for (route, method, status), count in self._counts.items():
            counts.add_metric((route, method, str(status)), count)
        times = HistogramMetricFamily(
            "gateway_http_request_seconds", "Time from a request's first byte to its answer", labels=("route", "method")
        )
        bounds = [*(str(float(bound)) for bound in _REQUEST_S), "+Inf"]
        for labels, counted in self._times.items():
            times.add_metric(labels, list(zip(bounds, accumulate(counted), strict=True)), self._sums[labels])
        return counts, times


class Metrics:
    """All figures of one gateway. Every `observe`-like call is a dictionary look-up and an addition: safe on hot paths.

    Used from one thread, the event loop's.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._accepted = self._counter("notifications_accepted", "Notifications answered with 202", ("mode",))
        self._delivery = self._counter(
            "deliveries",
            "Deliveries that entered a status",
            ("channel", "status", "reason"),
        )
        self._attempt_s = self._histogram(
            "attempt_seconds",
            "Time a provider took to answer an attempt",
            ("provider", "outcome"),
            _ATTEMPT_S,
        )
        self._requests = _Requests()
        self._registry.register(self._requests)
        self._batch = self._histogram("commit_batch_size", "Calls that shared one commit", ("kind",), _BATCH)
        self._waiting = self._gauge("queue_waiting", "Deliveries that wait, due or not", ("lane",))
        self._due = self._gauge("queue_due", "Deliveries that are due and wait for a slot", ("lane",))
        self._oldest = self._gauge("queue_oldest_due_seconds", "How long the oldest due delivery is overdue", ("lane",))
        self._spent = self._gauge("spent", "Money set aside by this process, less what was given back", ("channel",))
        self._unpaid = self._counter("spend_refused", "Attempts that a channel's daily cap held back", ("channel",))
        self._healthy = self._gauge(
            "provider_healthy",
            "1: in use; 0: left alone for a while, stopped or paused",
            ("provider", "channel"),
        )
        self._status = self._gauge(
            "provider_status",
            "1 for the status a provider has: ok, recovering, failing, stopped, paused",
            ("provider", "channel", "status"),
        )
        self._gauge("build_info", "The running version", ("version",)).labels(gateway.__version__).set(1)
        ProcessCollector(registry=self._registry)
        self._counters: dict[tuple[str, ...], Counter] = {}
        self._histograms: dict[tuple[str, ...], Histogram] = {}
        self._before: list[Callable[[], None]] = []

    def accepted(self, mode: str, count: int = 1) -> None:
        """Count notifications that got their 202."""
        self._bound(self._accepted, "a", mode).inc(count)

    def delivery(self, channel: str, status: str, reason: str | None, count: int = 1) -> None:
        """Count deliveries that entered a status."""
        self._bound(self._delivery, "d", channel, status, reason or "").inc(count)

    def attempt(self, provider: str, outcome: str, took_s: float) -> None:
        """Note one try at one provider."""
        self._timed(self._attempt_s, "t", provider, outcome).observe(took_s)

    def spending(self, channel: str, amount: float, granted: bool) -> None:  # noqa: FBT001 - one of two counters
        """Note money set aside (negative: given back), or that a channel's daily cap left none."""
        if granted:
            self._spent.labels(channel).inc(amount)
        else:
            self._bound(self._unpaid, "u", channel).inc()

    def batch(self, kind: str, size: int) -> None:
        """Note how many calls of a kind (`accept`, `settle`, …) shared one commit."""
        self._timed(self._batch, "b", kind).observe(size)

    def request(self, route: str, method: str, status: int, took_s: float) -> None:
        """Note one answered request; `route` is the path's pattern, or a fixed word for paths that match none."""
        self._requests.note(route, method, status, took_s)

    def provider_health(self, provider: str, channel: str, *, healthy: bool) -> None:
        """Say whether a provider is in use."""
        self._healthy.labels(provider, channel).set(healthy)

    def provider_status(self, provider: str, channel: str, status: str, statuses: Iterable[str]) -> None:
        """Say in which of all `statuses` a provider is; `ok` and `recovering` are in use."""
        self.provider_health(provider, channel, healthy=status in _IN_USE)
        for one in statuses:
            self._status.labels(provider, channel, one).set(one == status)

    def queue(self, depths: Iterable[Depth], now_ms: int) -> None:
        """Set what waits, by lane; lanes that are not named any more vanish."""
        for gauge in (self._waiting, self._due, self._oldest):
            gauge.clear()
        for depth in depths:
            overdue_ms = 0 if depth.oldest_due_at is None else max(0, now_ms - depth.oldest_due_at)
            self._waiting.labels(depth.lane).set(depth.waiting)
            self._due.labels(depth.lane).set(depth.due)
            self._oldest.labels(depth.lane).set(overdue_ms / _MS_PER_S)

    def before_render(self, refresh: Callable[[], None]) -> None:
        """Have `refresh` called before each scrape: for gauges that are cheaper asked than told. Must not block."""
        self._before.append(refresh)

    def render(self) -> tuple[bytes, str]:
        """Show everything in Prometheus' text format: the bytes and their media type."""
        for refresh in self._before:
            refresh()
        return generate_latest(self._registry), CONTENT_TYPE

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float | None:
        """Read one sample by its full name (`gateway_deliveries_total`); `None` if there is none."""
        return self._registry.get_sample_value(name, dict(labels or {}))

    def _bound(self, counter: Counter, *key: str) -> Counter:
        """Find a label set's own counter; the library's look-up builds a tuple and takes a lock each time."""
        found = self._counters.get(key)
        if found is None:
            found = self._counters[key] = counter.labels(*key[1:])
        return found

    def _timed(self, histogram: Histogram, *key: str) -> Histogram:
        found = self._histograms.get(key)
        if found is None:
            found = self._histograms[key] = histogram.labels(*key[1:])
        return found

    def _counter(self, name: str, words: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, words, labels, namespace="gateway", registry=self._registry)

    def _gauge(self, name: str, words: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(name, words, labels, namespace="gateway", registry=self._registry)

    def _histogram(self, name: str, words: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, words, labels, namespace="gateway", buckets=buckets, registry=self._registry)
