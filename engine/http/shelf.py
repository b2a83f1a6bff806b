"""The policies in force, as the builder left them to be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from engine.http.change import YAML_SUFFIX, YAML_TYPES
from engine.http.description import JSON, YAML
from engine.http.documents import KINDS, folder_of, tag_of
from engine.http.parts import Parts
from engine.http.problems import Problem, Refused, not_found
from engine.policy.status import DOCUMENTS

_CHUNK = 1 << 18
_AMBIGUOUS = 409


async def policies(parts: Parts) -> Response:
    """All policies, and what is wrong with a change that was left out.

    They may be many, so what the builder wrote is passed on unread.
    """
    snapshot = parts.snapshot
    status = await asyncio.to_thread(lambda: parts.policies.status)
    head = {"revision": snapshot.revision, "problems": list(status.problems)}
    begun = orjson.dumps(head)[:-1] + b',"policies":'
    path = snapshot.folder / DOCUMENTS if snapshot.folder else None
    file = await _opened(path) if path else None

    async def content() -> AsyncIterator[bytes]:
        yield begun
        if file is None:
            yield b"[]"
        else:
            with file:
                while chunk := await asyncio.to_thread(file.read, _CHUNK):
                    yield chunk
        yield b"}"

    return StreamingResponse(content(), media_type=JSON)


async def policy(parts: Parts, name: str, kind: str | None, request: Request) -> Response:
    """One policy, as JSON or as it is written; its ETag is what If-Match takes.

    Raises:
        Refused: if there is none, or one of each of several kinds.
    """
    folder = parts.snapshot.folder
    found = await asyncio.to_thread(_found, folder / folder_of(name), kind) if folder else None
    if found is None:
        raise Refused(not_found(f"there is no policy {name!r} in force"))
    text, as_json = found
    yaml = any(media in request.headers.get("accept", "") for media in YAML_TYPES)
    tag = f'{tag_of(text)[:-1]}{YAML_SUFFIX}"' if yaml else tag_of(text)
    headers = {"ETag": tag, "Vary": "Accept", "Cache-Control": "no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(text if yaml else as_json, 200, headers, YAML if yaml else JSON)


def _found(folder: Path, kind: str | None) -> tuple[bytes, bytes] | None:
    """The text of the document of a name, and the same as JSON."""
    kinds = [one for one in KINDS if kind in (None, one) and (folder / f"{one}.yaml").exists()]
    if len(kinds) > 1:
        detail = f"there is one of each kind: add ?kind= with one of {', '.join(kinds)}"
        raise Refused(Problem(_AMBIGUOUS, "ambiguous", "The name is not of one document", detail))
    if not kinds:
        return None
    return (folder / f"{kinds[0]}.yaml").read_bytes(), (folder / f"{kinds[0]}.json").read_bytes()


async def _opened(path: Path) -> BinaryIO | None:
    try:
        return await asyncio.to_thread(path.open, "rb")
    except FileNotFoundError:
        return None
