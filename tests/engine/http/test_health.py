from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.health import create_health
from engine.snapshot import PolicyStore
from tests.engine.conftest import Write
from tests.engine.samples import POLICY, TODAY

pytestmark = pytest.mark.anyio


def store_of(folder: Path) -> PolicyStore:
    store = PolicyStore(folder, lambda: TODAY)
    store.refresh()
    return store


async def get(store: PolicyStore, path: str, *, audit: bool = True) -> httpx.Response:
    transport = httpx.ASGITransport(app=create_health(store, lambda: audit))
    async with httpx.AsyncClient(transport=transport, base_url="http://zt") as client:
        return await client.get(path)


async def ready(store: PolicyStore, *, audit: bool = True) -> tuple[int, Any]:
    answer = await get(store, "/readyz", audit=audit)
    return answer.status_code, answer.json()


async def test_with_policy_and_trail_it_is_ready(write_policy: Write) -> None:
    store = store_of(write_policy(POLICY))
    status, body = await ready(store)
    assert (status, body["status"], body["audit"]) == (200, "ready", "written")
    assert body["policy"] == {"revision": store.current.revision, "problems": []}


async def test_a_bad_change_is_told_but_takes_no_replica_out_of_service(
    write_policy: Write,
) -> None:
    store = store_of(write_policy(POLICY))
    revision = store.current.revision
    write_policy("kind: [")
    store.refresh()
    status, body = await ready(store)
    assert (status, body["status"]) == (200, "degraded")
    assert body["policy"]["revision"] == revision
    assert "not YAML" in body["policy"]["problems"][0]


async def test_without_any_policy_it_is_not_ready(tmp_path: Path) -> None:
    status, body = await ready(store_of(tmp_path / "nowhere"))
    assert (status, body["status"]) == (503, "unavailable")


async def test_without_a_trail_it_is_not_ready(write_policy: Write) -> None:
    status, body = await ready(store_of(write_policy(POLICY)), audit=False)
    assert (status, body["status"], body["audit"]) == (503, "unavailable", "unavailable")


async def test_it_lives_whatever_is_missing(tmp_path: Path) -> None:
    answer = await get(store_of(tmp_path / "nowhere"), "/healthz", audit=False)
    assert (answer.status_code, answer.text) == (200, "ok")
