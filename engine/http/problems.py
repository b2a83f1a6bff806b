"""Errors as problem documents (RFC 9457), the one form in which the API refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

MEDIA_TYPE = "application/problem+json"
BASE = "https://zt.hanzo.ai/problems/"

MAX_BODY = 1 << 20


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request.

    ``at`` is a JSON pointer into the body (``/requests/3/port``, ``""`` for the whole), or the name
    of a query parameter.
    """

    at: str
    detail: str
    parameter: bool = False

    def data(self) -> dict[str, str]:
        """As JSON."""
        if self.parameter:
            return {"parameter": self.at, "detail": self.detail}
        return {"pointer": f"#{self.at}", "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request is refused. ``code`` is stable, for machines: the end of the type's URI."""

    status: int
    code: str
    title: str
    detail: str = ""
    faults: tuple[Fault, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> bytes:
        """The document."""
        content: dict[str, Any] = {
            "type": BASE + self.code,
            "title": self.title,
            "status": self.status,
        }
        if self.detail:
            content["detail"] = self.detail
        if self.faults:
            content["errors"] = [fault.data() for fault in self.faults]
        return orjson.dumps(content | dict(self.extra))


class Refused(Exception):  # noqa: N818 - it carries the problem, which is no error of ours
    """A request is refused, by a problem."""

    def __init__(self, problem: Problem) -> None:
        """Keep the problem."""
        self.problem = problem
        super().__init__(problem.detail or problem.title)


def invalid(*faults: Fault) -> Problem:
    """A request that could be read and makes no sense."""
    return Problem(
        422, "invalid-request", "The request is not valid", "; ".join(_told(faults)), faults
    )


def _told(faults: tuple[Fault, ...], most: int = 3) -> list[str]:
    """The first few faults as text; all of them are in ``errors``."""
    told = [f"{fault.at}: {fault.detail}" if fault.at else fault.detail for fault in faults[:most]]
    more = len(faults) - most
    return [*told, f"and {more} more"] if more > 0 else told


def not_json(detail: str) -> Problem:
    """A body that is no JSON."""
    return Problem(400, "not-json", "The body is not JSON", detail)


def too_large(limit: int = MAX_BODY) -> Problem:
    """A body of more bytes than are read."""
    detail = f"a body may have {limit} bytes at most"
    return Problem(413, "too-large", "The body is too large", detail, headers=_CLOSE)


def too_slow(seconds: float) -> Problem:
    """A body that does not come to its end."""
    detail = f"the body did not arrive within {seconds:g} s"
    return Problem(408, "too-slow", "The body took too long", detail, headers=_CLOSE)


def wrong_type(wanted: str) -> Problem:
    """A body of another media type."""
    detail = f"send Content-Type: {wanted}"
    return Problem(415, "wrong-type", "The body is of a type that is not read here", detail)


def not_found(detail: str = "") -> Problem:
    """Nothing is there."""
    return Problem(404, "not-found", "Nothing is there", detail)


def busy(seconds: int = 1) -> Problem:
    """As many requests of the kind as are served at a time are being served."""
    detail = "as many requests of this kind as are served at a time are being served: ask again"
    return Problem(503, "busy", "Too many at a time", detail, headers={"Retry-After": str(seconds)})


def timed_out(detail: str) -> Problem:
    """Whatever it takes to answer took too long."""
    return Problem(503, "timed-out", "The answer took too long", detail)


AUDIT_UNREADABLE = Problem(
    503, "audit-unreadable", "The audit trail cannot be read now", headers={"Retry-After": "5"}
)
AUDIT_UNAVAILABLE = Problem(
    503,
    "audit-unavailable",
    "The audit trail cannot be written now",
    "nothing is changed that cannot be recorded",
)
INTERNAL = Problem(
    500, "internal", "The evaluator failed", "why is in its log; nothing was decided"
)
METHOD_NOT_ALLOWED = Problem(405, "method-not-allowed", "The method is not one of this address")

_CLOSE = {"Connection": "close"}
