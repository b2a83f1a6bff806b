"""Health until the first SVID is there: alive, not ready, and what it waits for."""

from __future__ import annotations

import http.server
import signal
import socket
import threading
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson

from engine.settings import Settings
from engine.spire.status import read_problem

_PATIENCE = 2.0
_LOOK = 0.1


def run(settings: Settings, listening: socket.socket) -> int:
    """Answer on the port of health until SIGTERM; who waits for an answer then gets it."""
    made = {"agent": settings.spire_socket, "state": settings.state_path}
    handler = type("Handler", (_Handler,), made)
    with _Server(listening.getsockname(), handler, bind_and_activate=False) as server:
        server.socket.close()
        server.socket = listening
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever(_LOOK)
    return 0


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = _PATIENCE
    server_version, sys_version = "zt", ""
    agent: Path
    state: Path

    def do_GET(self) -> None:
        """Answer what the evaluator's health does, as far as there is one."""
        waits = f"waits for its SVID from the SPIRE agent at {self.agent}"
        if self.path == "/healthz":
            self._say(HTTPStatus.OK, "text/plain", "; ".join([waits, *self._problems()]).encode())
        elif self.path == "/readyz":
            found = {"status": "unavailable", "identity": self._identity(waits)}
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, "application/json", orjson.dumps(found))
        else:
            self._say(HTTPStatus.NOT_FOUND, "text/plain", b"not found")

    def _problems(self) -> list[str]:
        problem = read_problem(self.state)
        return [] if problem is None else [problem]

    def _identity(self, waits: str) -> dict[str, str | None]:
        return {"spiffe": None, "problem": read_problem(self.state) or waits}

    def _say(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:  # noqa: ANN401 - as it is declared
        """Say nothing: the kubelet asks every few seconds."""
