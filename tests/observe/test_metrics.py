"""Figures, as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gateway.observe.metrics import Metrics
from gateway.storage.contract import LaneDepth


def test_what_happens_is_counted_by_its_labels() -> None:
    metrics = Metrics()
    metrics.accepted("live")
    metrics.accepted("live", 4)
    metrics.delivery("email", "sent", None)
    metrics.delivery("email", "failed", "provider_down", 2)
    assert metrics.value("gateway_notifications_accepted_total", {"mode": "live"}) == 5
    sent = {"channel": "email", "status": "sent", "reason": ""}
    failed = {"channel": "email", "status": "failed", "reason": "provider_down"}
    assert metrics.value("gateway_deliveries_total", sent) == 1
    assert metrics.value("gateway_deliveries_total", failed) == 2


def test_how_long_things_take_falls_into_buckets() -> None:
    metrics = Metrics()
    metrics.attempt("smtp-main", "accepted", 0.02)
    metrics.batch("accept", 3)
    metrics.request("/v1/notifications", "POST", 202, 0.004)
    labels = {"provider": "smtp-main", "outcome": "accepted"}
    assert metrics.value("gateway_attempt_seconds_bucket", {**labels, "le": "0.01"}) == 0
    assert metrics.value("gateway_attempt_seconds_bucket", {**labels, "le": "0.025"}) == 1
    assert metrics.value("gateway_commit_batch_size_sum", {"kind": "accept"}) == 3
    request = {"route": "/v1/notifications", "method": "POST"}
    assert metrics.value("gateway_http_requests_total", {**request, "status": "202"}) == 1
    assert metrics.value("gateway_http_request_seconds_count", request) == 1


def test_the_queue_shows_the_lanes_that_are_there_now() -> None:
    metrics = Metrics()
    metrics.queue([LaneDepth(lane="email:bulk", waiting=9, due=4, oldest_due_at=1_000)], 3_500)
    assert metrics.value("gateway_queue_waiting", {"lane": "email:bulk"}) == 9
    assert metrics.value("gateway_queue_due", {"lane": "email:bulk"}) == 4
    assert metrics.value("gateway_queue_oldest_due_seconds", {"lane": "email:bulk"}) == 2.5
    metrics.queue([LaneDepth(lane="email:normal", waiting=1, due=0, oldest_due_at=None)], 3_500)
    assert metrics.value("gateway_queue_waiting", {"lane": "email:bulk"}) is None
    assert metrics.value("gateway_queue_oldest_due_seconds", {"lane": "email:normal"}) == 0


def test_gauges_are_asked_for_at_each_scrape() -> None:
    metrics = Metrics()
    states = iter([True, False])
    metrics.before_render(lambda: metrics.provider_health("smtp-main", "email", healthy=next(states)))
    labels = {"provider": "smtp-main", "channel": "email"}
    metrics.render()
    assert metrics.value("gateway_provider_healthy", labels) == 1
    metrics.render()
    assert metrics.value("gateway_provider_healthy", labels) == 0


def test_two_gateways_in_one_process_do_not_mix() -> None:
    first, second = Metrics(), Metrics()
    first.accepted("live")
    assert second.value("gateway_notifications_accepted_total", {"mode": "live"}) is None


def test_the_text_is_what_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.request('/v1/"odd"\n', "GET", 404, 0.1)
    text, media_type = metrics.render()
    assert media_type.startswith("text/plain; version=0.0.4")
    names = {family.name for family in text_string_to_metric_families(text.decode())}
    assert {"gateway_http_requests", "gateway_build_info", "process_resident_memory_bytes"} <= names
