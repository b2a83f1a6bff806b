"""PUT /v1/policies/{name}: who asks for a change, what it may overwrite, and its record.

``engine.http.editor`` makes the change. It is recorded after it has been checked and before it is
written: a change that is in force has a record, whatever stops in between.
"""

from __future__ import annotations

import asyncio
import logging
import re
from asyncio.subprocess import Process
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from engine.audit.outcome import Outcome, clean
from engine.http.bodies import body_of, media_type
from engine.http.callers import Action, Caller, allowed, caller_of, reason_of
from engine.http.editor import COMMIT
from engine.http.parts import Parts
from engine.http.problems import (
    AUDIT_UNAVAILABLE,
    Fault,
    Problem,
    Refused,
    invalid,
    timed_out,
    wrong_type,
)
from engine.http.programs import started
from engine.http.questions import LAYER
from engine.http.records import recorded
from engine.metrics.metrics import UNKNOWN
from zt.decide import Verdict
from zt.model import Phase
from zt.wellknown import EVALUATOR_API

Json = dict[str, Any]

CHANGED, REFUSED = "policy_changed", "policy_change_refused"
YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")
JSON_TYPE = "application/json"
YAML_SUFFIX = "-yaml"

_PREPARATION, _WRITING = 60.0, 20.0
_TOLD = 1 << 16
_TAG = re.compile(r'(W/)?"([^"]*)"')
_NOTE = (
    "the evaluators follow by themselves; the repository of the policies does not: until it has "
    "this change as well, `pulumi up` takes it back"
)
_TITLES = {
    "invalid-policy": "The policies would not be valid",
    "not-json": "The body is not JSON",
    "not-found": "Nothing is there",
    "ambiguous": "The name is not of one document",
    "stale": "The policy is another by now",
    "exists": "The policy exists already",
    "file-exists": "The file exists already",
    "read-only": "The policies can't be changed here",
    "busy": "Too many at a time",
    "source-unavailable": "The policies can't be reached now",
}
_FIXED = Problem(
    409,
    "not-changeable",
    "The policies can't be changed here",
    "this evaluator is given a compiled table: change the policies that it is compiled from",
)
_UNCONDITIONAL = Problem(
    428,
    "precondition-required",
    "Say which version is to be changed",
    "send If-Match with the ETag of the policy as you read it, or If-None-Match: * for a new one",
)
_UNCHECKED = Problem(503, "unchecked", "The change could not be checked", "nothing was changed")
_UNCERTAIN = Problem(
    503,
    "outcome-unknown",
    "Whether the change was made is not known",
    "read the policy again before you repeat it",
)

_log = logging.getLogger(__name__)


async def put_policy(parts: Parts, name: str, kind: str | None, request: HttpRequest) -> Response:
    """Make a change.

    Raises:
        Refused: if it can't be made.
    """
    caller = caller_of(request.scope)
    problem = allowed(caller, parts.snapshot, Action.WRITE)
    if problem is not None:
        parts.decider.metrics.unknown_caller(reason_of(problem))
        await _record(parts, caller, name, Verdict.DENY)
        raise Refused(problem)
    tags = _tags(request)
    asked = await _asked(parts, name, kind, tags, request)
    async with parts.changing.taken():
        answer, identifier = await _made(parts, caller, name, asked)
    content = {"name": name, "decisionId": identifier} | answer | {"note": _NOTE}
    created = 201 if tags == [] else 200
    headers = {"ETag": answer["etag"]}
    return Response(orjson.dumps(content), created, headers, JSON_TYPE)


async def _asked(
    parts: Parts, name: str, kind: str | None, tags: list[str] | None, request: HttpRequest
) -> Json:
    """What the editor is asked."""
    source = _source(parts)
    sent = media_type(request)
    if sent != JSON_TYPE and sent not in YAML_TYPES:
        raise Refused(wrong_type(f"{YAML_TYPES[0]} or {JSON_TYPE}"))
    try:
        body = (await body_of(request)).decode()
    except UnicodeDecodeError:
        raise Refused(invalid(Fault("", "is not UTF-8"))) from None
    return {
        "source": source,
        "name": name,
        "kind": kind,
        "body": body,
        "is_json": sent == JSON_TYPE,
        "tags": tags,
        "today": datetime.now(UTC).date().isoformat(),
    }


def _source(parts: Parts) -> Json:
    """Where the policies are kept, for the editor."""
    settings = parts.settings
    if settings.config_map is not None:
        place = {"namespace": settings.config_map.namespace, "name": settings.config_map.name}
        return {"config_map": place}
    if settings.policy_path.suffix == ".json":
        raise Refused(_FIXED)
    return {"path": str(settings.policy_path.absolute())}


def _tags(request: HttpRequest) -> list[str] | None:
    """The tags that may be overwritten; ``None`` for any, none for a new policy."""
    given = request.headers.get("if-match")
    if given is None:
        if request.headers.get("if-none-match", "").strip() == "*":
            return []
        raise Refused(_UNCONDITIONAL)
    if given.strip() == "*":
        return None
    # Weak tags never match; one that nothing has stands for them, since no tag means a new policy.
    strong = [tag for weak, tag in _TAG.findall(given) if not weak]
    return [f'"{tag.removesuffix(YAML_SUFFIX)}"' for tag in strong] or [""]


# --- Making it ------------------------------------------------------------------------------------


async def _made(parts: Parts, caller: Caller, name: str, asked: Json) -> tuple[Json, UUID]:
    """Have the change prepared, record it, and have it written."""
    async with started("-m", "engine.http.editor") as program:
        try:
            prepared = await _told(program, orjson.dumps(asked) + b"\n", _PREPARATION)
        except TimeoutError:
            raise Refused(timed_out("the change could not be checked in time")) from None
        if "refused" not in prepared and "prepared" not in prepared:
            raise Refused(await _failed(program))
        if "refused" in prepared:
            await _record(parts, caller, name, Verdict.DENY)
            raise Refused(_problem(prepared))
        identifier = await _record(parts, caller, name, Verdict.ALLOW)
        if identifier is None:
            raise Refused(AUDIT_UNAVAILABLE)
        try:
            done = await _told(program, COMMIT, _WRITING)
        except TimeoutError:
            raise Refused(_UNCERTAIN) from None
        if "done" not in done:
            # The record before says that it was changed; this one, that it was not after all.
            await _record(parts, caller, name, Verdict.DENY)
            raise Refused(_problem(done) if "refused" in done else _UNCERTAIN)
    return prepared["prepared"], identifier


async def _told(program: Process, line: bytes, patience: float) -> Json:
    """Tell the editor something; its answer, empty if it ended without one.

    Raises:
        TimeoutError: if it says nothing in time.
    """
    assert program.stdin is not None  # noqa: S101 - both are pipes
    assert program.stdout is not None  # noqa: S101 - as above
    async with asyncio.timeout(patience):
        try:
            program.stdin.write(line)
            await program.stdin.drain()
            answer = await program.stdout.readline()
        except (ConnectionError, ValueError):
            return {}
    return dict(orjson.loads(answer)) if answer.endswith(b"\n") else {}


async def _failed(program: Process) -> Problem:
    """The editor ended without an answer; why is for the log alone."""
    assert program.stderr is not None  # noqa: S101 - it is a pipe
    said = (await program.stderr.read(_TOLD)).decode(errors="replace")
    _log.error("a change could not be checked: %s", said.strip())
    return _UNCHECKED


def _problem(answer: Json) -> Problem:
    """What the editor refuses, as a problem."""
    refused = answer["refused"]
    code = refused["code"]
    extra = {"findings": refused["findings"]} if refused["findings"] else {}
    headers = {"Retry-After": "1"} if code == "busy" else {}
    return Problem(
        refused["status"], code, _TITLES[code], refused["detail"], headers=headers, extra=extra
    )


async def _record(parts: Parts, caller: Caller, name: str, verdict: Verdict) -> UUID | None:
    """Record that a caller changed a policy, or was refused."""
    outcome = Outcome(
        verdict=verdict,
        would_be=verdict,
        phase=Phase.ENFORCE,
        source_id=clean(caller.spiffe),
        source_pod=None,
        source_node=None,
        destination_id=parts.identity or UNKNOWN,
        destination_port=EVALUATOR_API,
        rule=f"policy/{name}",
        reason=CHANGED if verdict is Verdict.ALLOW else REFUSED,
        layer=LAYER,
        revision=parts.snapshot.revision,
    )
    return await recorded(parts.decider, outcome)
