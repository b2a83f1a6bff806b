"""From the body of a question to the bytes of its answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import NamedTuple

import orjson

from engine.audit.outcome import id_prefix, id_rest
from engine.decider import Decider, Prepared
from engine.evaluate import Answer, Request
from engine.http.callers import Action, Caller, allowed, reason_of
from engine.http.problems import INTERNAL, MEDIA_TYPE, Problem, Refused
from engine.http.questions import LAYER, about, constant, parse, parse_batch, usual

# Answers that are remembered while policy and locations stay: an attacker must not grow it, and
# what is in the processor's caches answers sooner than more of it would.
_REMEMBERED = 1 << 12
# Places for marks of questions that were asked before. Most questions that are asked once are never
# asked again, and to remember those would cost as much as to answer them.
_PLACE_BITS = 16
_PLACE = (1 << _PLACE_BITS) - 1
_MARK = (1 << 8) - 1
_LATENCY = b'","latency_us":%d}'
_QUICK = 1000
_LATENCIES = [_LATENCY % latency for latency in range(_QUICK)]
_LAST = [b"%02x" % number for number in range(256)]
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_SHORT = 1 << 10
_HEADS = [_OK % length for length in range(_SHORT)]
_SERVED = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n"
_PHRASES = {
    400: b"Bad Request",
    403: b"Forbidden",
    408: b"Request Timeout",
    413: b"Content Too Large",
    422: b"Unprocessable Content",
    500: b"Internal Server Error",
}

# Half the time that a named tuple's own constructor takes.
_new = tuple.__new__

_log = logging.getLogger(__name__)


@dataclass
class Pending:
    """A response that waits until its records are safe."""

    response: bytes | None = None


class _Known(NamedTuple):
    """A question's answer under one view, and the beginning of its JSON."""

    prepared: Prepared
    beginning: bytes


class _Told(NamedTuple):
    """An answer that has been appended, or could not be (``sequence`` 0)."""

    known: _Known
    sequence: int
    latency_us: int


class Answerer:
    """Answers questions for all connections of a worker."""

    def __init__(self, decider: Decider) -> None:
        """Answer with a decider."""
        self._decider = decider
        # For the connections: heads of questions that have been parsed, and the length of the body.
        self.heads: dict[bytes, int] = {}
        self._view: object = None
        self._table = decider.view.snapshot.table
        # By the body of a question: most callers write the same question in the same way.
        self._known: dict[bytes, _Known] = {}
        self._marks = bytearray(1 << _PLACE_BITS)
        self._immediate = decider.durability.immediate
        # What the IDs of 256 records in turn have in common.
        self._block, self._in_block = -1, b""
        self._identified = b',"decisionId":"' + id_prefix(decider.spool.writer).encode()

    def one(self, body: bytes, caller: Caller, settled: Callable[[], None]) -> bytes | Pending:
        """Answer /v1/evaluate; ``settled`` is called once a pending response is there."""
        started = perf_counter_ns()
        try:
            known = self._remembered(body)
            request = known.prepared.request if known else self._read(body)
            if not caller.local and (problem := self._objection(caller, [request])):
                return problem_response(problem)
            known = known or self._learn(body, request)
            sequence = self._decider.append(known.prepared, started)
            latency_us = (perf_counter_ns() - started) // 1000
            if sequence and self._immediate:
                return self._response(known.beginning, sequence, latency_us)
            told = _new(_Told, (known, sequence, latency_us))
        except Refused as refused:
            return problem_response(refused.problem)
        except Exception:  # noqa: BLE001 - whatever it is, others are answered
            _log.exception("a question could not be answered")
            return problem_response(INTERNAL)
        return self._wait(sequence, settled, lambda safe: _ok(self._json(told, safe=safe)))

    def batch(self, body: bytes, caller: Caller, settled: Callable[[], None]) -> bytes | Pending:
        """Answer /v1/evaluate:batch."""
        try:
            requests = parse_batch(body)
            if not caller.local and (problem := self._objection(caller, requests)):
                return problem_response(problem)
            all_told = [self._tell(self._answer(one), perf_counter_ns()) for one in requests]
        except Refused as refused:
            return problem_response(refused.problem)
        except Exception:  # noqa: BLE001 - whatever it is, others are answered
            _log.exception("a batch of questions could not be answered")
            return problem_response(INTERNAL)

        def response(safe: bool) -> bytes:  # noqa: FBT001 - durability tells it so
            answers = b",".join([self._json(told, safe=safe) for told in all_told])
            return _ok(b'{"answers":[' + answers + b"]}")

        if self._decider.durability.immediate:
            return response(True)  # noqa: FBT003 - as above
        # Records are safe in the order in which they were appended.
        return self._wait(max(told.sequence for told in all_told), settled, response)

    def _objection(self, caller: Caller, requests: list[Request]) -> Problem | None:
        snapshot = self._decider.view.snapshot
        for request in requests:
            problem = allowed(caller, snapshot, Action.ASK, about(request))
            if problem is not None:
                self._decider.metrics.unknown_caller(reason_of(problem))
                return problem
        return None

    def _tell(self, known: _Known, started: int) -> _Told:
        """Append the record of an answer."""
        sequence = self._decider.append(known.prepared, started)
        return _new(_Told, (known, sequence, (perf_counter_ns() - started) // 1000))

    def _remembered(self, body: bytes) -> _Known | None:
        """The answer to a question that was asked before, under the present view."""
        view = self._decider.view
        if self._view is not view:
            self._view, self._known, self._table = view, {}, view.snapshot.table
        return self._known.get(body)

    def _read(self, body: bytes) -> Request:
        table = self._table
        return (usual(body, table.numbers) if table.plain else None) or parse(body)

    def _learn(self, body: bytes, request: Request) -> _Known:
        """The answer to a question, which is remembered if it was asked before."""
        known = self._answer(request)
        digest, marks = hash(body), self._marks
        place, mark = digest & _PLACE, digest >> _PLACE_BITS & _MARK
        if marks[place] != mark:
            marks[place] = mark
            return known
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[body] = known
        return known

    def _answer(self, request: Request) -> _Known:
        prepared = self._decider.prepare(request, LAYER)
        plain = self._decider.view.snapshot.table.plain
        beginning = beginning_of(prepared.answer, plain=plain) + self._identified
        return _new(_Known, (prepared, beginning))

    def _json(self, told: _Told, *, safe: bool) -> bytes:
        """The JSON of an answer; one whose record is not there, or not safe, is refused."""
        known, sequence, latency_us = told
        if sequence and safe:
            return known.beginning + self._rest_of_id(sequence) + _LATENCY % latency_us
        refused = beginning_of(known.prepared.refused, plain=False)
        if not sequence:
            return refused + b',"decisionId":null,"latency_us":%d}' % latency_us
        return refused + self._identified + self._rest_of_id(sequence) + _LATENCY % latency_us

    def _rest_of_id(self, sequence: int) -> bytes:
        """The end of a record's ID; most of it is that of the one before."""
        block = sequence >> 8
        if block != self._block:
            self._block, self._in_block = block, id_rest(sequence)[:-2]
        return self._in_block + _LAST[sequence & 0xFF]

    def _response(self, beginning: bytes, sequence: int, latency_us: int) -> bytes:
        """The response to a question whose record is safe; put together from ready pieces."""
        rest = self._rest_of_id(sequence)
        latency = _LATENCIES[latency_us] if latency_us < _QUICK else _LATENCY % latency_us
        length = len(beginning) + len(rest) + len(latency)
        head = _HEADS[length] if length < _SHORT else _OK % length
        return b"".join((head, beginning, rest, latency))

    def _wait(
        self, last: int, settled: Callable[[], None], response: Callable[[bool], bytes]
    ) -> Pending:
        """A response that is there once the last record is safe, or known not to be."""
        pending = Pending()

        def settle(safe: bool) -> None:  # noqa: FBT001 - durability tells it so
            pending.response = response(safe)
            settled()

        if last:
            self._decider.durability.when(last, settle)
        else:
            pending.response = response(False)  # noqa: FBT003 - as above
        return pending


def _ok(body: bytes) -> bytes:
    length = len(body)
    return (_HEADS[length] if length < _SHORT else _OK % length) + body


def beginning_of(answer: Answer, *, plain: bool) -> bytes:
    """The beginning of an answer's JSON; ``plain``: its rule's name is in JSON as it is."""
    if not plain:
        return orjson.dumps(constant(answer))[:-1]
    verdict, would_be, phase, _, rule, reason, revision, _, _ = answer
    # An f-string would call each member of an enum to format itself.
    return "".join((  # noqa: FLY002 - as above
        '{"decision":"', verdict, '","rule":"', rule, '","reason":"', reason,
        '","phase":"', phase, '","wouldBe":"', would_be, '","revision":"', revision, '"',
    )).encode()  # fmt: skip


def problem_response(problem: Problem) -> bytes:
    """A problem as a whole response."""
    body = problem.body()
    head = _SERVED % (problem.status, _PHRASES[problem.status], MEDIA_TYPE.encode(), len(body))
    headers = "".join(f"{name}: {value}\r\n" for name, value in problem.headers.items())
    return head + headers.encode() + b"\r\n" + body
