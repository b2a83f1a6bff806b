"""The page with an evaluator that says what a test wants: its trail, and whether it answers."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from engine.audit.reader import Edge
from engine.builder import build
from engine.page.assets import HEADERS, assets
from engine.page.page import Parts, page
from engine.policy.store import PolicyStore

POLICIES = Path(__file__).parents[3] / "policies"
PLACE = "spiffe://hanzo.ai/hanzo-k8s/hanzo/"
HOSTILE = 'spiffe://x/<img src=x onerror="window.broken=1">/y/z'
START = datetime(2026, 11, 24, 12, tzinfo=UTC)

Json = dict[str, Any]


@dataclass
class Site:
    """What is served, and how often the trail was asked for."""

    store: PolicyStore
    edges: list[Edge]
    records: list[Json] = field(default_factory=list)
    problems: tuple[str, ...] = ()
    asked: int = 0
    fails: bool = False
    address: str = ""

    def decide(self, source: str | None, destination: str, decision: str, would_be: str) -> None:
        """Add a decision to the trail."""
        number = len(self.records)
        time_ = (START + timedelta(seconds=number)).isoformat().replace("+00:00", "Z")
        record = {
            "timestamp": time_,
            "decision": decision,
            "source": {"spiffe_id": source, "pod": None, "node": None},
            "destination": {"spiffe_id": destination, "port": 5432},
            "policy_matched": "default",
            "latency_us": 9,
            "id": f"00000000-0000-0000-0000-{number:012}",
            "would_be": would_be,
            "phase": "enforce",
            "reason": "no_rule",
            "layer": "evaluator",
            "revision": "r1",
        }
        self.records.insert(0, record)


def party(name: str) -> str:
    return PLACE + name


def edge(source: str | None, destination: str, port: int, *counts: int) -> Edge:
    allowed, denied, would_deny = counts
    return Edge(source, destination, port, allowed, denied, would_deny, START)


def seen() -> list[Edge]:
    return [
        edge(party("chat"), party("gateway"), 4000, 12833, 0, 0),
        edge(party("gateway"), party("iam"), 8000, 20311, 0, 0),
        edge(party("gateway"), party("postgres"), 5432, 8811, 0, 0),
        edge(party("iam"), party("postgres"), 5432, 3311, 12, 0),
        edge("external:internet", party("chat"), 3000, 9001, 0, 0),
        edge(party("chat"), party("postgres"), 5432, 0, 41, 0),
        edge(party("flow"), party("redis"), 6379, 77, 0, 77),
        edge(party("debug-shell"), party("minio"), 9000, 0, 7, 0),
        edge(None, party("iam"), 8000, 0, 3, 0),
    ]


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """A site on a port of its own, with the policies of this repository."""
    assert build(POLICIES, folder, date(2026, 11, 24)).problems == ()
    store = PolicyStore(folder)
    store.refresh()
    site = Site(store, seen())
    server = uvicorn.Server(uvicorn.Config(_application(site), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        site.address = f"http://127.0.0.1:{port}/"
        yield site
    finally:
        server.should_exit = True
        thread.join()


def _application(site: Site) -> Starlette:
    def home(_request: Request) -> Response:
        parts = Parts(site.store.current, site.edges, site.problems)
        return HTMLResponse(page(parts), headers=dict(HEADERS))

    def asset(request: Request) -> Response:
        kind, content = assets()[request.path_params["name"]]
        return Response(content, media_type=kind, headers=dict(HEADERS))

    def audit(request: Request) -> Response:
        site.asked += 1
        if site.fails:
            problem = {"title": "The trail is away", "detail": "the audit trail cannot be read now"}
            return JSONResponse(problem, 503, media_type="application/problem+json")
        return JSONResponse({"records": site.records[: int(request.query_params["limit"])]})

    return Starlette(
        routes=[
            Route("/", home),
            Route("/assets/{name}", asset),
            Route("/v1/audit", audit),
        ]
    )
