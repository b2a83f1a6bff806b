"""Reads the body of a request: so much at most, and not for longer than a sender needs."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from engine.http.problems import MAX_BODY, Problem, Refused, too_large, too_slow

PATIENCE = 15.0

_GONE = Problem(400, "cut-off", "The body was cut off")


async def body_of(request: Request, limit: int = MAX_BODY, patience: float = PATIENCE) -> bytes:
    """The body, refused as soon as it is known to be too large.

    Raises:
        Refused: if it is, or comes too slowly, or not whole.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise Refused(too_large(limit))
    body = bytearray()
    try:
        async with asyncio.timeout(patience):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise Refused(too_large(limit))
    except TimeoutError:
        raise Refused(too_slow(patience)) from None
    except ClientDisconnect:
        raise Refused(_GONE) from None
    return bytes(body)


def media_type(request: Request) -> str:
    """The media type of the body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
