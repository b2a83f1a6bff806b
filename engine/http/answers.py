"""From the body of a question to the bytes of its answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter_ns

from engine.audit.outcome import id_prefix, id_text
from engine.decider import Decider, Prepared
from engine.evaluate import Request
from engine.http.callers import Action, Caller, allowed, reason_of
from engine.http.problems import INTERNAL, MEDIA_TYPE, Problem, Refused
from engine.http.questions import LAYER, about, finished, parse, parse_batch, written

# Answers that are remembered while policy and locations stay: an attacker must not grow it.
_REMEMBERED = 1 << 16
_JSON = b"application/json"
_SERVED = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n"
_PHRASES = {
    400: b"Bad Request",
    403: b"Forbidden",
    408: b"Request Timeout",
    413: b"Content Too Large",
    422: b"Unprocessable Content",
    500: b"Internal Server Error",
}

_log = logging.getLogger(__name__)


@dataclass
class Pending:
    """A response that waits until its records are safe."""

    response: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Step:
    """An answer that has been appended, or could not be (``sequence`` 0)."""

    prepared: Prepared
    beginning: bytes
    sequence: int
    latency_us: int


@dataclass
class Answerer:
    """Answers questions for all connections of a worker."""

    decider: Decider
    _view: object = None
    _remembered: dict[Request, tuple[Prepared, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._prefix = id_prefix(self.decider.spool.writer)

    def one(self, body: bytes, caller: Caller, settled: Callable[[], None]) -> bytes | Pending:
        """Answer /v1/evaluate; ``settled`` is called once a pending response is there."""
        try:
            started = perf_counter_ns()
            request = parse(body)
            if not caller.local and (problem := self._objection(caller, [request])):
                return problem_response(problem)
            step = self._step(request, started)
        except Refused as refused:
            return problem_response(refused.problem)
        except Exception:  # noqa: BLE001 - whatever it is, others are answered
            _log.exception("a question could not be answered")
            return problem_response(INTERNAL)
        if step.sequence and not self.decider.durability.immediate:
            return self._wait([step], settled, lambda safe: _ok(self._told(step, safe=safe)))
        return _ok(self._told(step, safe=True))

    def batch(self, body: bytes, caller: Caller, settled: Callable[[], None]) -> bytes | Pending:
        """Answer /v1/evaluate:batch."""
        try:
            requests = parse_batch(body)
            if not caller.local and (problem := self._objection(caller, requests)):
                return problem_response(problem)
            steps = [self._step(request, perf_counter_ns()) for request in requests]
        except Refused as refused:
            return problem_response(refused.problem)
        except Exception:  # noqa: BLE001 - whatever it is, others are answered
            _log.exception("a batch of questions could not be answered")
            return problem_response(INTERNAL)

        def told(safe: bool) -> bytes:  # noqa: FBT001 - it is what was told
            answers = b",".join([self._told(step, safe=safe) for step in steps])
            return _ok(b'{"answers":[' + answers + b"]}")

        if not self.decider.durability.immediate:
            return self._wait(steps, settled, told)
        return told(safe=True)

    def _objection(self, caller: Caller, requests: list[Request]) -> Problem | None:
        snapshot = self.decider.view.snapshot
        for request in requests:
            problem = allowed(caller, snapshot, Action.ASK, about(request))
            if problem is not None:
                self.decider.metrics.unknown_caller(reason_of(problem))
                return problem
        return None

    def _step(self, request: Request, started: int) -> _Step:
        """Decide a request and append its record."""
        decider = self.decider
        if self._view is not decider.view or len(self._remembered) >= _REMEMBERED:
            self._view, self._remembered = decider.view, {}
        found = self._remembered.get(request)
        if found is None:
            prepared = decider.prepare(request, LAYER)
            found = self._remembered[request] = prepared, written(prepared.answer)
        sequence = decider.append(found[0], started)
        return _Step(*found, sequence, (perf_counter_ns() - started) // 1000)

    def _told(self, step: _Step, *, safe: bool) -> bytes:
        """The JSON of an answer; one whose record is not safe is refused, by its own record."""
        identifier = id_text(self._prefix, step.sequence) if step.sequence else None
        told = step.beginning if step.sequence and safe else written(step.prepared.refused)
        return finished(told, identifier, step.latency_us)

    def _wait(
        self, steps: list[_Step], settled: Callable[[], None], told: Callable[[bool], bytes]
    ) -> Pending:
        pending = Pending()

        def settle(safe: bool) -> None:  # noqa: FBT001 - durability tells it so
            pending.response = told(safe)
            settled()

        # Records are safe in the order in which they were appended.
        last = max(step.sequence for step in steps)
        if last:
            self.decider.durability.when(last, settle)
        else:
            pending.response = told(False)  # noqa: FBT003 - as above
        return pending


def _ok(body: bytes) -> bytes:
    return _SERVED % (200, b"OK", _JSON, len(body)) + b"\r\n" + body


def problem_response(problem: Problem) -> bytes:
    """A problem as a whole response."""
    body = problem.body()
    head = _SERVED % (problem.status, _PHRASES[problem.status], MEDIA_TYPE.encode(), len(body))
    headers = "".join(f"{name}: {value}\r\n" for name, value in problem.headers.items())
    return head + headers.encode() + b"\r\n" + body
