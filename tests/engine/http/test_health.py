import json
from collections.abc import AsyncIterator
from pathlib import Path
from time import time
from typing import Any

import pytest

from engine.builder import build
from engine.http import health
from engine.http.health import readiness_of
from engine.http.parts import Parts
from engine.policy.table import empty_snapshot
from tests.engine.http.serving import healthy, parts_of, serving, settings_of, write_source
from tests.engine.samples import TODAY, Desk

pytestmark = pytest.mark.anyio


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with serving(tmp_path) as served:
        yield served.parts


def readiness(parts: Parts) -> tuple[str, dict[str, Any], dict[str, Any]]:
    found = readiness_of(parts)
    return found["status"], found["policy"], found["audit"]


def say(parts: Parts, **status: object) -> None:
    """Leave what the drainer says of itself."""
    (parts.settings.state_path / "audit.json").write_text(json.dumps(status))


async def test_with_policy_and_spool_it_is_ready(parts: Parts) -> None:
    async with healthy(parts) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["status"], found["audit"]["recording"]) == ("ready", True)
    assert found["policy"]["revision"] == parts.snapshot.revision
    assert (found["policy"]["stale"], found["policy"]["staleSeconds"]) == (False, None)
    assert found["audit"]["durability"] == "process"


async def test_a_bad_change_is_told_but_takes_no_replica_out_of_service(
    parts: Parts, tmp_path: Path
) -> None:
    build(write_source(tmp_path, "kind: ["), parts.settings.policy, TODAY)
    status, policy, _ = readiness(parts)
    assert (status, policy["stale"]) == ("degraded", True)
    assert policy["staleSeconds"] >= 0
    assert policy["revision"] == parts.snapshot.revision
    assert "not YAML" in policy["problems"][0]
    async with healthy(parts) as client:
        assert (await client.get("/readyz")).status_code == 200


async def test_without_any_policy_it_is_not_ready(tmp_path: Path) -> None:
    parts = parts_of(settings_of(tmp_path / "nowhere", tmp_path / "state"), empty_desk())
    async with healthy(parts) as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        assert (await client.get("/healthz")).text == "ok"


def empty_desk() -> Desk:
    return Desk(snapshot=empty_snapshot())


async def test_where_nothing_can_be_recorded_it_is_not_ready_for_a_while(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.decider.not_appended(OSError(28, "No space left on device"))
    assert readiness(parts)[0] == "unavailable"
    # Nobody asks what is not ready, so only time can show that it is well again.
    monkeypatch.setattr("engine.http.parts._MEMORY", 0.0)
    assert readiness(parts)[0] == "ready"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, "ready"),
        ({"error": None, "last_commit": 1.0}, "ready"),
        ({"waits": 5}, "ready"),
        ({"waits": 500}, "degraded"),
        ({"error": "the database is away"}, "degraded"),
    ],
)
async def test_a_database_that_is_away_is_told(
    parts: Parts, said: dict[str, object], expected: str
) -> None:
    waits = said.get("waits")
    say(parts, **said, **({"oldest": time() - waits} if isinstance(waits, int) else {}))
    status, _, audit = readiness(parts)
    assert status == expected
    assert audit["error"] == said.get("error")


async def test_a_spool_that_fills_is_told(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = parts.settings.audit.spool_bytes
    for used, expected in ((0.5, "ready"), (0.9, "degraded")):
        monkeypatch.setattr(health, "spool_bytes", lambda _, part=used: int(part * limit))
        assert readiness(parts)[0] == expected


async def test_what_is_told_is_looked_up_now_and_then(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Parts] = []

    def look(parts: Parts) -> dict[str, Any]:
        looked.append(parts)
        return readiness_of(parts)

    monkeypatch.setattr(health, "readiness_of", look)
    async with healthy(parts) as client:
        answers = [await client.get("/readyz") for _ in range(5)]
        assert len({answer.content for answer in answers}) == 1
        assert len(looked) == 1


async def test_what_the_drainer_left_half_written_is_no_hindrance(parts: Parts) -> None:
    for content in ("", "[", "[]", "5", "null"):
        (parts.settings.state_path / "audit.json").write_text(content)
        assert readiness(parts)[0] == "ready"
