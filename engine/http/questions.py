"""What /v1/evaluate is asked and answers: the one place that gives its bodies a meaning.

The protocol that answers most questions and the application that answers the rest both use it, and
``engine.http.description`` describes it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, TypeGuard

import orjson

from engine.audit.outcome import TEXT_LIMIT
from engine.decider import Decided
from engine.evaluate import Answer, Request
from engine.http.problems import Fault, Refused, invalid, not_json
from zt.effective import EXTERNAL
from zt.nearest import did_you_mean
from zt.spiffe import SCHEME
from zt.values import MAX_PORT

LAYER = "api"
MAX_BATCH = 1000
MAX_NAME = 253
MAX_SUBJECT = 256
FIELDS = ("source", "destination", "port", "pod", "node", "operator", "agent")
BATCH = "requests"

_PLAIN = {"source", "destination", "port"}
# A usual question between its first quotes, without source, destination and what follows them.
_USUAL = (
    ["{", "source", ":", ",", "destination", ":"],
    ["{", "source", ": ", ", ", "destination", ": "],
)
_QUOTES = 8
_PORT = re.compile(r',"port":([1-9][0-9]{0,4})}|, "port": ([1-9][0-9]{0,4})}')
_NAME = re.compile(r"(?:spiffe://|external:)[A-Za-z0-9./_-]*")
_PORTS = 1 << 10  # that are remembered
# Half the time that a named tuple's own constructor takes.
_new = tuple.__new__
_PREFIXES = (SCHEME, EXTERNAL)
_BEHALF = {"operator": "subject", "agent": "clientId"}
# More than anybody mends at once; a body of a megabyte could hold thousands.
_MAX_FAULTS = 100


def usual(body: bytes, parties: Container[str]) -> Request | None:
    """The request of a question that is written as most are; ``None`` of any other.

    Such a question holds the three fields in their order and no spaces but those of Python's own
    JSON, and names ``parties``, whose names are in JSON as they are, or others of plain letters.
    It is read in half the time that ``parse`` takes, which says the same of it.
    """
    if len(body) > TEXT_LIMIT or not body.isascii():
        return None
    parts = body.decode().split('"', _QUOTES)
    if len(parts) <= _QUOTES:
        return None
    port, destination, source = _port(parts.pop()), parts.pop(), parts.pop(3)
    if not port or parts not in _USUAL:
        return None
    if not (source in parties or _NAME.fullmatch(source)):
        return None
    if not (destination in parties or _NAME.fullmatch(destination)):
        return None
    return _new(Request, (source, destination, port, None, None, None, None, None))


def parse(body: bytes) -> Request:
    """Read the body of /v1/evaluate.

    Raises:
        Refused: with all that is wrong with it.
    """
    value = _json(body)
    request = _plain(value)
    if request is not None:
        return request
    _refuse(_faults(value, ""))
    return _request(value)


def parse_batch(body: bytes) -> list[Request]:
    """Read the body of /v1/evaluate:batch; one bad question refuses them all.

    Raises:
        Refused: with all that is wrong with it.
    """
    value = _json(body)
    _refuse(_batch_faults(value))
    requests = []
    faults: list[Fault] = []
    for number, item in enumerate(value[BATCH]):
        request = _plain(item)
        if request is None:
            found = list(_faults(item, f"/{BATCH}/{number}"))
            faults.extend(found)
            request = None if found else _request(item)
        if request is not None:
            requests.append(request)
        if len(faults) >= _MAX_FAULTS:
            break
    _refuse(iter(faults))
    return requests


def about(request: Request) -> tuple[str, ...]:
    """The ends of a connection that is asked about."""
    return request.source or "", request.destination or ""


def answered(decided: Decided) -> dict[str, Any]:
    """What a decision is told as; ``decisionId`` is null where it could not be recorded."""
    return constant(decided.answer) | {
        "decisionId": decided.id,
        "latency_us": decided.latency_us,
    }


def constant(answer: Answer) -> dict[str, Any]:
    """The part of it that is the same for all connections that get the same answer."""
    return {
        "decision": answer.verdict,
        "rule": answer.rule,
        "reason": answer.reason,
        "phase": answer.phase,
        "wouldBe": answer.would_be,
        "revision": answer.revision,
    }


@lru_cache(_PORTS)
def _port(text: str) -> int:
    """The port at the end of a usual question; 0 if it is none."""
    found = _PORT.fullmatch(text)
    port = int(found[1] or found[2]) if found else 0
    return port if port <= MAX_PORT else 0


# --- What is wrong with a body --------------------------------------------------------------------


def _json(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(not_json(_place(error))) from None


def _place(error: orjson.JSONDecodeError) -> str:
    return f"{error.msg.partition(':')[0]}, at line {error.lineno} column {error.colno}"


def _refuse(faults: Iterator[Fault]) -> None:
    found = tuple(islice(faults, _MAX_FAULTS))
    if found:
        raise Refused(invalid(*found))


def _plain(value: Any) -> Request | None:  # noqa: ANN401 - any JSON value
    """The request of a question that holds the three fields alone; ``None`` of any other.

    Nearly all questions are of this kind, and what is wrong with others takes longer to tell.
    """
    if value.__class__ is not dict or value.keys() != _PLAIN:
        return None
    source, destination, port = value["source"], value["destination"], value["port"]
    if (
        source.__class__ is str
        and destination.__class__ is str
        and port.__class__ is int
        and 1 <= port <= MAX_PORT
        and source.startswith(_PREFIXES)
        and destination.startswith(_PREFIXES)
        and len(source) <= TEXT_LIMIT
        and len(destination) <= TEXT_LIMIT
    ):
        return Request(source, destination, port)
    return None


def _request(value: dict[str, Any]) -> Request:
    """The request of a question that has no faults."""
    return Request(
        source=value["source"],
        destination=value["destination"],
        port=value["port"],
        pod=value.get("pod"),
        node=value.get("node"),
        on_behalf_of=_on_behalf_of(value),
    )


def _on_behalf_of(value: dict[str, Any]) -> str | None:
    for kind, name in _BEHALF.items():
        if value.get(kind) is not None:
            return f"{kind}:{value[kind][name]}"
    return None


def _batch_faults(value: Any) -> Iterator[Fault]:  # noqa: ANN401 - any JSON value
    if not isinstance(value, dict):
        yield Fault("", f"should be an object with {BATCH!r}")
        return
    for name in value:
        if name != BATCH:
            yield Fault(pointer(name), f"is no field of a batch: {BATCH!r} is the only one")
    requests = value.get(BATCH)
    if not isinstance(requests, list) or not 1 <= len(requests) <= MAX_BATCH:
        yield Fault(f"/{BATCH}", f"should be a list of 1 to {MAX_BATCH} questions")


def _faults(value: Any, at: str) -> Iterator[Fault]:  # noqa: ANN401 - any JSON value
    if not isinstance(value, dict):
        yield Fault(at, "should be an object with 'source', 'destination' and 'port'")
        return
    for name in value:
        if name not in FIELDS:
            hint = did_you_mean(name[:MAX_NAME], FIELDS)
            yield Fault(at + pointer(name), f"is no field of a question{hint}")
    yield from _party_faults(value, "source", at)
    yield from _party_faults(value, "destination", at)
    port = value.get("port")
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= MAX_PORT:
        yield Fault(f"{at}/port", f"should be a whole number from 1 to {MAX_PORT}")
    for name in ("pod", "node"):
        if value.get(name) is not None and not _is_text(value[name], MAX_NAME):
            yield Fault(f"{at}/{name}", f"should be text of 1 to {MAX_NAME} characters, or null")
    yield from _behalf_faults(value, at)


def _party_faults(value: dict[str, Any], name: str, at: str) -> Iterator[Fault]:
    party = value.get(name)
    if not _is_text(party, TEXT_LIMIT) or not party.startswith(_PREFIXES):
        yield Fault(
            f"{at}/{name}",
            f"should be a SPIFFE ID or external:<name>, of {TEXT_LIMIT} characters at most",
        )


def _behalf_faults(value: dict[str, Any], at: str) -> Iterator[Fault]:
    given = [kind for kind in _BEHALF if value.get(kind) is not None]
    for kind in given:
        name, context = _BEHALF[kind], value[kind]
        if (
            not isinstance(context, dict)
            or context.keys() != {name}
            or not _is_text(context[name], MAX_SUBJECT)
        ):
            what = f"should be an object with {name!r} alone, text of 1 to {MAX_SUBJECT} characters"
            yield Fault(f"{at}/{kind}", what)
    if len(given) > 1:
        yield Fault(f"{at}/agent", "stands beside 'operator': a call is on behalf of one of them")


def _is_text(value: object, longest: int) -> TypeGuard[str]:
    return isinstance(value, str) and 1 <= len(value) <= longest


def pointer(name: str) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    escaped = name[:MAX_NAME].replace("~", "~0").replace("/", "~1")
    return f"/{escaped}"
