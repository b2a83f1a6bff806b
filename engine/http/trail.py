"""The audit trail and its graph, over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import HTTPException
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Send

from engine.audit.export import audit_json, json_line, timestamp
from engine.audit.outcome import TEXT_LIMIT
from engine.audit.reader import Cursor, Edge, Query, parse_cursor
from engine.http.description import JSON, NDJSON
from engine.http.parts import Parts
from zt.decide import Verdict

Json = dict[str, Any]

MAX_PAGE = 1000
_PAGE = 100
_CHUNK = 200
# Who reads a stream so slowly, or for so long, has to begin again where it ended.
_SEND_PATIENCE = 30.0
_STREAM_PATIENCE = 900.0
_NOT_FOUND = 404
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def _moment(value: object) -> object:
    """RFC 3339, since pydantic takes numbers and days as well."""
    if isinstance(value, str) and not _MOMENT.fullmatch(value):
        raise ValueError("should be a time such as 2026-11-24T08:00:00Z (RFC 3339)")
    return value


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is no time that can be compared") from None


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    AfterValidator(_utc),
    Field(json_schema_extra={"format": "date-time"}),
]
# What no record holds, because the trail keeps nothing that can't be shown.
_Text = Annotated[str, Field(max_length=TEXT_LIMIT, pattern="^[^\\x00-\\x1f\\x7f]*$")]


class AuditFilter(BaseModel, extra="forbid"):
    """Which records of the trail, and how many; ``until`` is exclusive.

    An empty ``source`` is that of connections without an identity.
    """

    since: Moment | None = None
    until: Moment | None = None
    verdict: Verdict | None = None
    source: _Text | None = None
    destination: _Text | None = None
    rule: _Text | None = None
    pod: _Text | None = None
    layer: _Text | None = None
    reason: _Text | None = None
    cursor: Annotated[str, Field(max_length=200)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] | None = None

    def query(self) -> Query:
        """The query of the trail.

        Raises:
            ValueError: if the cursor is none.
        """
        given = self.model_dump(exclude={"cursor", "limit"})
        after = parse_cursor(self.cursor) if self.cursor else None
        return Query(**given, after=after, limit=self.limit or _PAGE)


async def page(parts: Parts, query: Query) -> Json:
    """A page of records, newest first; ``next`` is the cursor of the page that follows."""
    records = await parts.reader.records(query)
    full = len(records) == query.limit
    last = Cursor(records[-1].time, records[-1].id) if full else None
    return {"records": list(map(audit_json, records)), "next": str(last) if last else None}


async def record(parts: Parts, identifier: UUID) -> Json:
    """One record.

    Raises:
        HTTPException: if there is none.
    """
    found = await parts.reader.record(identifier)
    if found is None:
        raise HTTPException(_NOT_FOUND, "no record has this ID, or it is not in the trail yet")
    return audit_json(found)


async def stream(parts: Parts, query: Query, limit: int | None) -> Response:
    """All records, newest first, a line each. The first are read before the answer begins."""
    lines = _lines(parts, query, limit)
    try:
        first = await anext(lines)
    except StopAsyncIteration:
        return Response(b"", media_type=NDJSON)
    except BaseException:
        await lines.aclose()
        raise

    return _Stream(first, lines)


async def _lines(parts: Parts, query: Query, limit: int | None) -> AsyncGenerator[bytes, None]:
    """Chunks of lines; holds one of few turns as long as it is read."""
    deadline = asyncio.get_running_loop().time() + _STREAM_PATIENCE
    chunk: list[bytes] = []
    count = 0
    async with parts.streaming.taken():
        async for found in parts.reader.stream(query):
            chunk.append(json_line(found))
            count += 1
            if len(chunk) == _CHUNK or count == limit:
                yield b"".join(chunk)
                chunk.clear()
                # A page is written out without a pause; others are to have theirs.
                await asyncio.sleep(0)
            if count == limit:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError("a stream of the trail took too long")
    if chunk:
        yield b"".join(chunk)


class _Stream(StreamingResponse):
    """Lines as they are read; ends when whoever they are for has stopped reading."""

    def __init__(self, first: bytes, lines: AsyncGenerator[bytes, None]) -> None:
        async def content() -> AsyncIterator[bytes]:
            yield first
            async for chunk in lines:
                yield chunk

        super().__init__(content(), media_type=NDJSON)
        self._lines = lines

    async def stream_response(self, send: Send) -> None:
        """Send with patience, and give up the turn whatever happens."""

        async def patiently(message: Message) -> None:
            async with asyncio.timeout(_SEND_PATIENCE):
                await send(message)

        async with aclosing(self._lines):
            await super().stream_response(patiently)


async def graph(parts: Parts, since: datetime | None) -> Response:
    """Who called whom."""
    edges = await parts.reader.edges(since)
    table = parts.snapshot.table
    seen = {party for edge in edges for party in (edge.source, edge.destination) if party}
    nodes = [{"id": party, "declared": table.declares(party)} for party in sorted(seen)]
    content = {"nodes": nodes, "edges": list(map(edge_json, edges))}
    return Response(orjson.dumps(content), media_type=JSON)


def edge_json(edge: Edge) -> Mapping[str, object]:
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
