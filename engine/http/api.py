"""The HTTP API on port 8054 (HIP-54, "API Endpoints").

Questions are answered by ``engine.http.fast`` before they come here; what is here answers them in
the same words, and everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import orjson
import psycopg
from fastapi import Depends, FastAPI, Path, Query, Request, Response

from engine.audit.reader import Edge
from engine.evaluate import Request as Connection
from engine.http import shelf, trail
from engine.http.bodies import body_of
from engine.http.callers import Action, allowed, caller_of, reason_of
from engine.http.change import put_policy
from engine.http.description import JSON, NDJSON, YAML, conditions, describe, responses, sends
from engine.http.documents import Kind
from engine.http.explain import Explainer
from engine.http.guard import LoopbackNames
from engine.http.parts import Parts
from engine.http.problems import Fault, Refused, invalid, not_found
from engine.http.questions import LAYER, about, answered, parse, parse_batch
from engine.http.records import is_safe
from engine.http.refusals import add_refusals
from engine.metrics.render import render
from engine.metrics.text import CONTENT_TYPE
from engine.page.assets import HEADERS, assets
from engine.page.page import Parts as Shown
from engine.page.page import page
from zt.values import MAX_PORT

__all__ = ["Parts", "create_app"]

Json = dict[str, Any]
Name = Annotated[
    str, Path(max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", description="metadata.name")
]
Kinds = Annotated[Kind | None, Query(description="where documents of two kinds have the name")]
Party = Annotated[
    str,
    Query(max_length=512, pattern="^(spiffe://|external:).+$", description="an ID of the mesh"),
]
Port = Annotated[int, Query(ge=1, le=MAX_PORT)]
Guard = Callable[[Request], Awaitable[None]]

# Decisions of a batch that are taken before others have their turn.
_AT_A_TIME = 100
_SEEN = timedelta(hours=24)
_DESCRIPTION = "Who may call whom, as the mesh's policies have it, and who did."


def create_app(parts: Parts) -> FastAPI:
    """The application."""
    app = FastAPI(
        title="Hanzo ZT policy engine",
        version="1",
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    add_refusals(app)
    app.add_middleware(LoopbackNames)
    _add_questions(app, parts)
    _add_policies(app, parts)
    _add_trail(app, parts)
    _add_others(app, parts)
    return app


def _needs(parts: Parts, action: Action) -> Guard:
    """A dependency that lets nobody pass who may not do this."""

    async def guard(request: Request) -> None:
        _require(parts, request, action)

    return guard


def _require(parts: Parts, request: Request, action: Action, *ends: str) -> None:
    problem = allowed(caller_of(request.scope), parts.snapshot, action, ends)
    if problem is not None:
        parts.decider.metrics.unknown_caller(reason_of(problem))
        raise Refused(problem)


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type=JSON)


# --- Questions ------------------------------------------------------------------------------------


def _add_questions(app: FastAPI, parts: Parts) -> None:
    bodies = (400, 408, 413, 422)

    @app.post(
        "/v1/evaluate", responses=responses("Answer", *bodies), openapi_extra=sends("Question")
    )
    async def evaluate(request: Request) -> Response:
        """Decide one connection, and record the decision."""
        connection = parse(await body_of(request))
        _require(parts, request, Action.ASK, *about(connection))
        return _json(await _decided(parts, connection))

    @app.post(
        "/v1/evaluate:batch",
        responses=responses("Answers", *bodies),
        openapi_extra=sends("Questions"),
    )
    async def batch(request: Request) -> Response:
        """Decide many connections, each with a record; one bad question refuses them all."""
        connections = parse_batch(await body_of(request))
        for connection in connections:
            _require(parts, request, Action.ASK, *about(connection))
        answers = []
        for start in range(0, len(connections), _AT_A_TIME):
            some = connections[start : start + _AT_A_TIME]
            answers += await asyncio.gather(*(_decided(parts, one) for one in some))
        return _json({"answers": answers})

    explainer = Explainer(parts)

    @app.get("/v1/explain", responses=responses("Explanation", 422))
    async def explain(request: Request, source: Party, destination: Party, port: Port) -> Response:
        """Tell why a connection is allowed, or not, and by which planes; nothing is recorded."""
        _require(parts, request, Action.ASK, source, destination)
        return _json(await explainer.explain(source, destination, port))


async def _decided(parts: Parts, connection: Connection) -> Json:
    """Decide, and wait until the record is safe."""
    decided = parts.decider.decide(connection, LAYER)
    if decided.sequence and not await is_safe(parts.decider, decided.sequence):
        refused = parts.decider.prepare(connection, LAYER).refused
        decided = replace(decided, answer=refused)
    return answered(decided)


# --- Policies -------------------------------------------------------------------------------------


def _add_policies(app: FastAPI, parts: Parts) -> None:
    reads = [Depends(_needs(parts, Action.READ))]

    @app.get("/v1/policies", dependencies=reads, responses=responses("Policies"))
    async def policies() -> Response:
        """List the policies in force, and what is wrong with a change that was left out."""
        async with parts.reading.taken():
            return await shelf.policies(parts)

    @app.get(
        "/v1/policies/{name}",
        dependencies=reads,
        responses=responses("Policy", 404, 409, 422, also=YAML),
    )
    async def policy(name: Name, request: Request, kind: Kinds = None) -> Response:
        """One policy in force; its ETag is what a change has to name."""
        async with parts.reading.taken():
            return await shelf.policy(parts, name, kind, request)

    refusals = (400, 404, 408, 409, 412, 413, 415, 422, 428)

    @app.put(
        "/v1/policies/{name}",
        responses=responses("Changed", *refusals) | {201: responses("Changed")[200]},
        openapi_extra=sends("Policy", YAML) | conditions(),
    )
    async def change(name: Name, request: Request, kind: Kinds = None) -> Response:
        """Change one policy, or add one."""
        return await put_policy(parts, name, kind, request)


# --- The trail ------------------------------------------------------------------------------------


def _add_trail(app: FastAPI, parts: Parts) -> None:
    reads = [Depends(_needs(parts, Action.READ))]

    @app.get("/v1/audit", dependencies=reads, responses=responses("Records", 422, also=NDJSON))
    async def audit(filters: Annotated[trail.AuditFilter, Query()], request: Request) -> Response:
        """Decisions, newest first: a page, or as NDJSON all that match."""
        try:
            query = filters.query()
        except ValueError as error:
            raise Refused(invalid(Fault("cursor", str(error), parameter=True))) from None
        if NDJSON in request.headers.get("accept", ""):
            return await trail.stream(parts, query, filters.limit)
        async with parts.reading.taken():
            return _json(await trail.page(parts, query))

    @app.get("/v1/audit/{identifier}", dependencies=reads, responses=responses("Record", 404, 422))
    async def record(identifier: UUID) -> Response:
        """One decision, by the ID that its answer had."""
        async with parts.reading.taken():
            return _json(await trail.record(parts, identifier))

    @app.get("/v1/graph", dependencies=reads, responses=responses("Graph", 422))
    async def graph(since: trail.Moment | None = None) -> Response:
        """Who called whom, from the audit trail."""
        async with parts.reading.taken():
            return await trail.graph(parts, since)


# --- The page, metrics and the description --------------------------------------------------------


def _add_others(app: FastAPI, parts: Parts) -> None:
    reads = [Depends(_needs(parts, Action.READ))]

    @app.get("/", dependencies=reads, include_in_schema=False)
    async def home() -> Response:
        """The service graph, for people."""
        async with parts.reading.taken():
            html = await _page(parts)
        return Response(html, headers=dict(HEADERS), media_type="text/html")

    @app.get("/assets/{name}", dependencies=reads, include_in_schema=False)
    async def asset(name: str) -> Response:
        """What the page is made of."""
        if name not in assets():
            raise Refused(not_found())
        kind, content = assets()[name]
        return Response(content, headers={**HEADERS, "Content-Type": kind})

    @app.get(
        "/metrics", dependencies=[Depends(_needs(parts, Action.METRICS))], include_in_schema=False
    )
    async def metrics() -> Response:
        """For Prometheus."""
        async with parts.reading.taken():
            text = await asyncio.to_thread(
                render,
                parts.settings.state_path,
                ready=parts.snapshot.loaded,
                audit_available=parts.is_recording,
            )
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    @app.get(
        "/openapi.json",
        dependencies=[Depends(_needs(parts, Action.DESCRIBE))],
        include_in_schema=False,
    )
    async def description() -> Response:
        """What this API is."""
        return _json(describe(app))


async def _page(parts: Parts) -> str:
    """The page; without the trail it shows the policy alone."""
    edges: list[Edge] | None = None
    with suppress(psycopg.Error):
        edges = await parts.reader.edges(datetime.now(UTC) - _SEEN)
    status = await asyncio.to_thread(lambda: parts.policies.status)
    shown = Shown(parts.snapshot, edges, status.problems, parts.is_recording)
    return await asyncio.to_thread(page, shown)
