"""Keeps web pages of others from a developer's loopback port.

A page that resolves its own name to 127.0.0.1 would be let in as if it were the developer; the
browser says in ``Host`` which name it was. With TLS no page has a certificate to show.
"""

from __future__ import annotations

import ipaddress

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.http.callers import caller_of
from engine.http.problems import Problem
from engine.http.refusals import response_of

_FOREIGN = Problem(
    421,
    "foreign-name",
    "This port answers to names of this machine alone",
    "without TLS the API is for loopback: ask localhost, or an address of loopback",
)


class LoopbackNames:
    """Middleware: without TLS, only names of loopback are answered."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        if scope["type"] == "http" and caller_of(scope).local:
            host = Request(scope).headers.get("host")
            if host is not None and not is_loopback_name(host):
                await response_of(_FOREIGN)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_loopback_name(host: str) -> bool:
    """Whether a Host header names this machine's loopback."""
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
