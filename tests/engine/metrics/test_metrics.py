import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.metrics import cells, pairs
from engine.metrics.metrics import UNKNOWN, Metrics
from engine.metrics.render import State, render, rendered
from zt.decide import Verdict

EVERYTHING_WELL = State(ready=True, audit_available=True)
Labels = dict[str, str]


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    return samples(text)[name, frozenset(labels.items())]


def text_of(metrics: Metrics) -> str:
    return rendered([metrics.reading()], EVERYTHING_WELL)


def in_processes(folder: Path, work: Callable[[Metrics, int], None], processes: int) -> None:
    context = multiprocessing.get_context("fork")

    def run(number: int) -> None:
        work(Metrics(folder), number)

    started = [context.Process(target=run, args=(number,)) for number in range(processes)]
    for process in started:
        process.start()
    for process in started:
        process.join()
        assert process.exitcode == 0


def test_decisions_are_counted_under_the_specifications_labels() -> None:
    metrics = Metrics()
    for verdict in (Verdict.ALLOW, Verdict.ALLOW, Verdict.DENY):
        metrics.bump(metrics.counter(verdict, "spiffe://a", "spiffe://b"))
    text = text_of(metrics)
    assert 'zt_decisions_total{decision="allow",source="spiffe://a",dest="spiffe://b"} 2\n' in text
    assert 'zt_decisions_total{decision="deny",source="spiffe://a",dest="spiffe://b"} 1\n' in text


def test_a_counter_keeps_its_place() -> None:
    metrics = Metrics()
    first = metrics.counter(Verdict.ALLOW, "a", "b")
    assert metrics.counter(Verdict.DENY, "a", "b") != first
    assert metrics.counter(Verdict.ALLOW, "a", "b") == first


def test_what_a_label_cannot_hold_is_escaped() -> None:
    metrics = Metrics()
    metrics.refused_without_identity('a"b\\c\nd')
    found = value(text_of(metrics), "zt_refused_without_identity_total", reason='a"b\\c\nd')
    assert found == 1


def test_only_an_allow_without_a_record_is_lost() -> None:
    metrics = Metrics()
    metrics.lost(Verdict.DENY)
    assert value(text_of(metrics), "zt_audit_lost_total") == 0
    metrics.lost(Verdict.ALLOW)
    metrics.append_failure()
    assert value(text_of(metrics), "zt_audit_lost_total") == 1
    assert value(text_of(metrics), "zt_audit_append_failures_total") == 1


def test_callers_and_rotations_are_counted() -> None:
    metrics = Metrics()
    metrics.unknown_caller("no_right")
    metrics.certificate(UNKNOWN, "10.0.0.1", "first")
    metrics.certificate(UNKNOWN, "10.0.0.1", "second")
    text = text_of(metrics)
    assert value(text, "zt_unknown_callers_total", reason="no_right") == 1
    assert value(text, "zt_svid_rotations_total", service=UNKNOWN) == 1


def test_series_without_end_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "SERIES_LIMIT", 20)
    monkeypatch.setattr(pairs, "PAIRS_LIMIT", 15)
    metrics = Metrics()
    for number in range(100):
        for verdict in Verdict:
            metrics.bump(metrics.counter(verdict, f"spiffe://{number}", "b"))
        metrics.refused_without_identity(str(number))
    found = samples(text_of(metrics))
    decisions = {labels: n for (name, labels), n in found.items() if name == "zt_decisions_total"}
    assert len(decisions) < 20
    assert sum(decisions.values()) == 200
    shared = {("decision", "allow"), ("source", "other"), ("dest", "other")}
    assert decisions[frozenset(shared)] > 90
    assert value(text_of(metrics), "zt_metrics_overflows_total") > 200


def test_processes_that_count_at_once_add_up(tmp_path: Path) -> None:
    def work(metrics: Metrics, number: int) -> None:
        shared = metrics.counter(Verdict.ALLOW, "a", "b")
        own = metrics.counter(Verdict.DENY, str(number), "b")
        for _ in range(20_000):
            metrics.bump(shared)
            metrics.bump(own)
            metrics.observe(1000 * number + 900)

    in_processes(tmp_path / "metrics", work, 4)
    text = render(tmp_path, ready=True, audit_available=True)
    allowed = {"decision": "allow", "source": "a", "dest": "b"}
    assert value(text, "zt_decisions_total", **allowed) == 80_000
    denied = {"decision": "deny", "source": "2", "dest": "b"}
    assert value(text, "zt_decisions_total", **denied) == 20_000
    name = "zt_evaluation_duration_seconds"
    assert value(text, f"{name}_count") == 80_000
    assert value(text, f"{name}_sum") == pytest.approx(20_000 * 9_600 / 1e9)
    assert value(text, name, quantile="0.5") == pytest.approx(1.9e-6, rel=0.01)
    assert value(text, name, quantile="0.99") == pytest.approx(3.9e-6, rel=0.01)
    assert value(text, "zt_evaluation_seconds_bucket", le="2e-06") == 40_000
    assert value(text, "zt_evaluation_seconds_bucket", le="+Inf") == 80_000


def test_a_killed_process_takes_no_count_with_it(tmp_path: Path) -> None:
    """Counts are told through a pipe before the kill: what was told must be there after it."""
    folder, context = tmp_path / "metrics", multiprocessing.get_context("fork")
    told = context.RawValue("Q", 0)

    def run() -> None:
        metrics = Metrics(folder)
        place = metrics.counter(Verdict.ALLOW, "a", "b")
        while True:
            metrics.bump(place)
            metrics.observe(1000)
            told.value += 1

    last = 0.0
    for round_ in range(1, 6):
        process = context.Process(target=run)
        process.start()
        while told.value < 2_000 * round_:
            time.sleep(0.002)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        text = render(tmp_path, ready=True, audit_available=True)
        counted = value(text, "zt_decisions_total", decision="allow", source="a", dest="b")
        # Killed between counting and telling, at most once in each round.
        assert told.value <= counted <= told.value + round_
        assert counted >= last
        last = counted
    assert len(list(folder.glob("*.cells"))) == 1


def test_every_counter_is_right_while_others_render(tmp_path: Path) -> None:
    """A scrape in the middle of it never shows less than the one before."""

    def work(metrics: Metrics, number: int) -> None:
        for round_ in range(200):
            metrics.bump(metrics.counter(Verdict.ALLOW, f"{number}", f"{round_}"))
            metrics.observe(500)

    context = multiprocessing.get_context("fork")
    worker = context.Process(target=in_processes, args=(tmp_path / "metrics", work, 2))
    worker.start()
    before: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    while worker.is_alive():
        found = samples(render(tmp_path, ready=True, audit_available=True))
        counters = {key: n for key, n in found.items() if key[0].endswith(("_total", "_count"))}
        assert all(counters.get(key, -1) >= n for key, n in before.items())
        before = counters
    assert worker.exitcode == 0
    text = render(tmp_path, ready=True, audit_available=True)
    assert value(text, "zt_evaluation_duration_seconds_count") == 400
