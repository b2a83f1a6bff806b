"""Whatever goes wrong in the application, as a problem document."""

from __future__ import annotations

import logging
from http import HTTPStatus

import psycopg
from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request
from starlette.responses import Response

from engine.http.problems import (
    AUDIT_UNREADABLE,
    INTERNAL,
    MEDIA_TYPE,
    METHOD_NOT_ALLOWED,
    Fault,
    Problem,
    Refused,
    invalid,
    not_found,
    timed_out,
)

_log = logging.getLogger(__name__)


def add_refusals(app: FastAPI) -> None:
    """Have an application refuse by problem documents alone."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(StarletteHTTPException, _by_status)
    app.add_exception_handler(psycopg.errors.QueryCanceled, _too_long)
    app.add_exception_handler(psycopg.Error, _unreadable)
    app.add_exception_handler(Exception, _failed)


def response_of(problem: Problem) -> Response:
    """A problem as a response."""
    return Response(problem.body(), problem.status, dict(problem.headers), MEDIA_TYPE)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - it is registered for that
    return response_of(error.problem)


async def _not_valid(_request: Request, error: Exception) -> Response:
    """Parameters alone: bodies are read by ourselves."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - it is registered for that
    faults = [
        Fault(str(fault["loc"][-1]), _sentence(fault["msg"]), parameter=True)
        for fault in error.errors()
    ]
    return response_of(invalid(*faults))


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")


async def _by_status(request: Request, error: Exception) -> Response:
    """What routing refuses, and what a route says in Starlette's way."""
    assert isinstance(error, HTTPException | StarletteHTTPException)  # noqa: S101 - as above
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.NOT_FOUND:
        said = error.detail if error.detail != status.phrase else f"{request.url.path!r} is unknown"
        problem = not_found(said)
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        problem = METHOD_NOT_ALLOWED
    else:
        code = status.phrase.lower().replace(" ", "-")
        problem = Problem(status, code, status.phrase, str(error.detail))
    response = response_of(problem)
    response.headers.update(error.headers or {})
    return response


async def _too_long(_request: Request, _error: Exception) -> Response:
    return response_of(timed_out("the trail holds too much for this question: ask for less"))


async def _unreadable(_request: Request, error: Exception) -> Response:
    """The error itself may say more about the database than a caller should know."""
    _log.warning("the audit trail cannot be read: %s", error)
    return response_of(AUDIT_UNREADABLE)


async def _failed(_request: Request, _error: Exception) -> Response:
    """The server logs what it was."""
    return response_of(INTERNAL)
