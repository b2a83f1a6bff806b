"""The API on a real socket, with a policy that the builder built and a spool in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.audit.reader import AuditReader
from engine.builder import build
from engine.decider import View
from engine.http.api import Parts, create_app
from engine.http.callers import EXTENSION, LOCAL, Caller
from engine.http.health import create_health
from engine.policy.store import PolicyStore
from engine.settings import Settings, from_environment
from tests.engine.samples import API, DB, DOMAIN, LOCATIONS, NEW, POLICY, TODAY, WEB, Desk

QUESTION: dict[str, object] = {"source": WEB, "destination": DB, "port": 5432}
NOWHERE = "host=/nowhere dbname=none user=zt"
PROMETHEUS = DOMAIN + "prometheus"
STRANGER = DOMAIN + "stranger"

# web reads, api writes, new would do both with more evidence, db is nobody in particular.
OPERATORS = f"""\
---
apiVersion: zt.hanzo.ai/v1
kind: Service
metadata: {{name: prometheus}}
spec: {{cluster: east, namespace: shop}}
---
# Who may ask the evaluator about others.
apiVersion: zt.hanzo.ai/v1
kind: OperatorAccessPolicy
metadata: {{name: evaluators}}
spec:
  rules:
    - role: auditor
      targets: [{{service: engine, actions: [read]}}]
    - role: editor  # changes policies
      targets: [{{service: engine, actions: [write]}}]
    - role: oncall
      targets: [{{service: "*", actions: [read, write, restart]}}]
      conditions: [{{requireMFA: true}}]
---
apiVersion: zt.hanzo.ai/v1
kind: OperatorRoleBinding
metadata: {{name: auditors}}
spec: {{role: auditor, subjects: ["{WEB}"]}}
---
apiVersion: zt.hanzo.ai/v1
kind: OperatorRoleBinding
metadata: {{name: editors}}
spec: {{role: editor, subjects: ["{API}", "somebody"]}}
---
apiVersion: zt.hanzo.ai/v1
kind: OperatorRoleBinding
metadata: {{name: those-on-call}}
spec: {{role: oncall, subjects: ["{NEW}"]}}
"""
# Reading and writing are told apart where HTTP is spoken.
_ENGINE = "{name: engine}\nspec: {cluster: east, namespace: shop, ports: [{port: 5432"
WITH_RIGHTS = POLICY.replace(_ENGINE, f"{_ENGINE}, protocol: http") + OPERATORS
READER, WRITER, ON_CALL, SERVICE = WEB, API, NEW, DB


@dataclass
class As:
    """Says who calls, as the protocol of the port does."""

    app: ASGIApp
    caller: Caller = LOCAL

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("extensions", {})[EXTENSION] = self.caller
        await self.app(scope, receive, send)


@dataclass
class Served:
    """A served API: ``client`` asks it as ``caller``; ``source`` is the folder of its policies."""

    client: httpx.AsyncClient
    parts: Parts
    desk: Desk
    front: As
    port: int
    source: Path

    def become(self, spiffe: str | None) -> None:
        """Ask as somebody with a certificate, from now on."""
        self.front.caller = Caller(spiffe)

    def reload(self) -> None:
        """Build the policies as they are now, and put them in force."""
        build(self.source, self.parts.settings.policy, TODAY)
        self.parts.policies.refresh()
        self.parts.decider.view = View(self.parts.policies.current, LOCATIONS)


def settings_of(source: Path, state: Path, dsn: str = NOWHERE, **others: str) -> Settings:
    return from_environment(
        {
            "ZT_POLICY_PATH": str(source),
            "ZT_STATE_PATH": str(state),
            "ZT_AUDIT_DSN": dsn,
            "ZT_PLAINTEXT": "loopback",
            **others,
        }
    )


def parts_of(settings: Settings, desk: Desk) -> Parts:
    return Parts(
        settings, PolicyStore(settings.policy), desk.decider, AuditReader(settings.audit.dsn)
    )


def write_source(folder: Path, text: str = WITH_RIGHTS) -> Path:
    source = folder / "policies"
    source.mkdir(exist_ok=True)
    (source / "policy.yaml").write_text(text, encoding="utf-8")
    return source


@asynccontextmanager
async def serving(
    folder: Path, text: str = WITH_RIGHTS, dsn: str = NOWHERE, desk: Desk | None = None
) -> AsyncIterator[Served]:
    source = write_source(folder, text)
    desk = desk or Desk()
    parts = parts_of(settings_of(source, folder / "state", dsn), desk)
    front = As(create_app(parts))
    async with listening(front) as port:
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)
        async with client:
            served = Served(client, parts, desk, front, port, source)
            served.reload()
            yield served
    await parts.reader.close()


@asynccontextmanager
async def healthy(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        listening(create_health(parts)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield client


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[int]:
    """Serve on a port that the system chooses."""
    config = uvicorn.Config(
        app,
        port=0,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http="httptools",
        timeout_graceful_shutdown=1,
    )
    config.load()
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            assert not task.done()
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    """Leaves signals to pytest."""

    def install_signal_handlers(self) -> None:
        return


async def ask(served: Served, **changes: object) -> dict[str, Any]:
    answer = await served.client.post("/v1/evaluate", json=QUESTION | changes)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == answer.status_code
    assert found["title"]
    return answer.status_code, found["type"].removeprefix("https://zt.hanzo.ai/problems/")
