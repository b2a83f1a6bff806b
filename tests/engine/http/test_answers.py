import json
from collections.abc import Callable

import orjson
import pytest

from engine.audit.outcome import record_id
from engine.evaluate import Answer
from engine.http import answers
from engine.http.answers import Answerer, beginning_of
from engine.http.callers import LOCAL
from engine.http.questions import constant
from tests.engine.samples import DB, WEB, Desk
from zt.decide import Reason, Verdict
from zt.model import Phase


def question(port: int) -> bytes:
    return json.dumps({"source": WEB, "destination": DB, "port": port}).encode()


def never() -> None:
    raise AssertionError


def ask(answerer: Answerer, body: bytes, settled: Callable[[], None] = never) -> dict[str, object]:
    response = answerer.one(body, LOCAL, settled)
    assert isinstance(response, bytes)
    head, _, content = response.partition(b"\r\n\r\n")
    assert head.endswith(b"content-length: %d" % len(content))
    found: dict[str, object] = json.loads(content)
    return found


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("rule", ["default", "core/rule-1", "\u00e9\u4e16/rule-2"])
def test_an_answer_is_put_together_as_it_is_written(
    phase: Phase, verdict: Verdict, rule: str
) -> None:
    answer = Answer(
        verdict,
        Verdict.DENY,
        phase,
        verdict is Verdict.DENY,
        rule,
        Reason.NO_RULE,
        "r" * 16,
        None,
        None,
    )
    expected = orjson.dumps(constant(answer))[:-1]
    assert beginning_of(answer, plain=True) == beginning_of(answer, plain=False) == expected


def test_each_answer_has_the_id_of_its_record(desk: Desk) -> None:
    answerer = Answerer(desk.decider)
    for sequence in range(1, 600):
        found = ask(answerer, question(5432 if sequence % 3 else sequence))
        assert found["decisionId"] == str(record_id(desk.spool.writer, sequence))


def test_a_long_latency_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "perf_counter_ns", iter([0, 123_456_789]).__next__)
    assert ask(Answerer(desk.decider), question(5432))["latency_us"] == 123_456


def test_what_is_asked_again_is_remembered_and_what_is_not_is_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_REMEMBERED", 20)
    answerer = Answerer(desk.decider)
    for port in range(1, 200):
        assert ask(answerer, question(port))["decision"] == "DENY"
    assert len(answerer._known) < 10
    for _ in range(3):
        assert ask(answerer, question(5432))["decision"] == "ALLOW"
    assert question(5432) in answerer._known
    for port in range(1, 200):
        for _ in range(2):
            ask(answerer, question(port))
        assert len(answerer._known) <= 20


def test_what_is_remembered_is_forgotten_with_the_view(desk: Desk) -> None:
    answerer = Answerer(desk.decider)
    for _ in range(2):
        ask(answerer, question(5432))
    desk.decider.view = type(desk.decider.view)(desk.snapshot, desk.locations)
    assert ask(answerer, question(5432))["decision"] == "ALLOW"
    assert not answerer._known or answerer._view is desk.decider.view
