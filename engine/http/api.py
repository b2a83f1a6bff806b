"""The HTTP API on port 8054 (HIP-54, "API Endpoints")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import psycopg
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import AwareDatetime, BaseModel, Field

from engine.audit import AuditRecord
from engine.decider import Decider
from engine.http.documents import documents
from engine.evaluate import Request as Connection
from engine.metrics.metrics import CONTENT_TYPE
from engine.page.page import page
from engine.policy.store import PolicyStore
from engine.audit.reader import AuditReader, Cursor, Edge, parse_cursor
from engine.audit.reader import Query as Filter
from zt.decide import Verdict
from zt.values import MAX_PORT

LAYER = "api"
_UNPROCESSABLE = 422
_UNAVAILABLE = 503
_MAX_PAGE = 1000

Json = dict[str, Any]


class Question(BaseModel):
    """May this source call that port of this destination? Both are SPIFFE IDs."""

    source: Annotated[str, Field(max_length=512)]
    destination: Annotated[str, Field(max_length=512)]
    port: Annotated[int, Field(ge=1, le=MAX_PORT)]
    pod: Annotated[str | None, Field(max_length=253, description="the source's pod")] = None
    node: Annotated[str | None, Field(max_length=253, description="the source's node")] = None


class AuditFilter(BaseModel, extra="forbid"):
    """Which records of the trail, and how many; ``until`` is exclusive."""

    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    verdict: Verdict | None = None
    source: str | None = None
    destination: str | None = None
    rule: str | None = None
    cursor: str | None = None
    limit: Annotated[int, Field(ge=1, le=_MAX_PAGE)] = 100

    def query(self) -> Filter:
        """The query of the trail."""
        try:
            after = parse_cursor(self.cursor) if self.cursor else None
        except ValueError as error:
            raise HTTPException(_UNPROCESSABLE, str(error)) from None
        return Filter(
            since=self.since,
            until=self.until,
            verdict=self.verdict,
            source=self.source,
            destination=self.destination,
            rule=self.rule,
            after=after,
            limit=self.limit,
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """What the API needs; ``audit_available`` tells whether the trail can be written now."""

    store: PolicyStore
    decider: Decider
    reader: AuditReader
    audit_available: Callable[[], bool]


def create_app(parts: Parts) -> FastAPI:
    """The application."""
    app = FastAPI(title="Hanzo ZT policy engine", version="1")
    _add_decisions(app, parts)
    _add_trail(app, parts)
    _add_page(app, parts)
    app.add_exception_handler(psycopg.Error, _audit_unreachable)
    return app


def _add_decisions(app: FastAPI, parts: Parts) -> None:
    @app.post("/v1/evaluate")
    async def evaluate(question: Question) -> Json:
        """Decide one connection, and record the decision."""
        request = Connection(
            source=question.source,
            destination=question.destination,
            port=question.port,
            pod=question.pod,
            node=question.node,
        )
        decided = await parts.decider.decide(request, LAYER)
        answer = decided.answer
        return {
            "decision": answer.verdict,
            "rule": answer.rule,
            "reason": answer.reason,
            "phase": answer.phase,
            "wouldBe": answer.would_be,
            "revision": answer.revision,
            "decisionId": decided.id,
            "latency_us": decided.latency_us,
        }

    @app.get("/v1/policies")
    async def policies() -> Json:
        """The policies in force, and what is wrong with a change that was left out."""
        resolved = parts.store.current.effective
        return {
            "revision": parts.store.current.revision,
            "policies": documents(resolved.policy) if resolved else [],
            "problems": [str(problem) for problem in parts.store.problems],
        }


def _add_trail(app: FastAPI, parts: Parts) -> None:
    @app.get("/v1/audit")
    async def audit(filters: Annotated[AuditFilter, Query()]) -> Json:
        """Decisions, newest first; ``next`` is the cursor of the page that follows."""
        records = await parts.reader.records(filters.query())
        full = len(records) == filters.limit
        last = Cursor(records[-1].time, records[-1].id) if full else None
        return {"records": list(map(audit_json, records)), "next": str(last) if last else None}

    @app.get("/v1/graph")
    async def graph(since: AwareDatetime | None = None) -> Json:
        """Who called whom, from the audit trail."""
        edges = await parts.reader.edges(since)
        declared = parts.store.current.table.selectors
        seen = {party for edge in edges for party in (edge.source, edge.destination) if party}
        return {
            "nodes": [{"id": party, "declared": party in declared} for party in sorted(seen)],
            "edges": list(map(edge_json, edges)),
        }


def _add_page(app: FastAPI, parts: Parts) -> None:
    @app.get("/", include_in_schema=False)
    async def home() -> HTMLResponse:
        """The service graph, for people."""
        return HTMLResponse(await page(parts.store, parts.reader))

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> PlainTextResponse:
        """For Prometheus."""
        text = parts.decider.metrics.render(
            policy_ready=parts.store.current.effective is not None,
            policy_stale=bool(parts.store.problems),
            audit_available=parts.audit_available(),
        )
        return PlainTextResponse(text, media_type=CONTENT_TYPE)


def audit_json(record: AuditRecord) -> Json:
    """A record as HIP-54, "Audit Trail", prints it, and what we know besides."""
    return {
        "timestamp": timestamp(record.time),
        "decision": record.verdict,
        "source": {
            "spiffe_id": record.source_id,
            "pod": record.source_pod,
            "node": record.source_node,
        },
        "destination": {
            "spiffe_id": record.destination_id,
            "port": record.destination_port,
        },
        "policy_matched": record.rule,
        "latency_us": record.latency_us,
        "id": record.id,
        "would_be": record.would_be,
        "phase": record.phase,
        "reason": record.reason,
        "layer": record.layer,
        "revision": record.revision,
    }


def edge_json(edge: Edge) -> Json:
    """An edge of the graph."""
    return {
        "source": edge.source,
        "destination": edge.destination,
        "port": edge.port,
        "allowed": edge.allowed,
        "denied": edge.denied,
        "wouldDeny": edge.would_deny,
        "lastSeen": timestamp(edge.last_seen),
    }


def timestamp(time: datetime) -> str:
    """RFC 3339 in UTC."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


async def _audit_unreachable(_request: Request, _error: Exception) -> Response:
    """The error itself may say more about the database than a caller should know."""
    return JSONResponse({"detail": "the audit trail cannot be read now"}, _UNAVAILABLE)
