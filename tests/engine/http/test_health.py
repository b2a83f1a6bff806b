import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from time import time
from typing import Any, Self

import pytest

from engine.builder import build
from engine.http import health
from engine.http.health import readiness_of
from engine.http.parts import Parts
from engine.identity import own_svid
from engine.policy.table import empty_snapshot
from engine.spire.status import write_problem
from tests.engine.http.serving import healthy, parts_of, serving, settings_of, write_source
from tests.engine.samples import ENGINE, TODAY, Authority, Desk

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


# --- The SVID -------------------------------------------------------------------------------------


def with_svid(parts: Parts, tmp_path: Path, **others: str) -> Parts:
    """The same evaluator, with the SVID in a folder."""
    given = {"ZT_PLAINTEXT": "api", "ZT_SVID_PATH": str(tmp_path / "svid"), **others}
    settings = settings_of(tmp_path / "policies", parts.settings.state_path, **given)
    return replace(parts, settings=settings)


def at(moment: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have health think that it is another time."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(moment.timestamp(), tz)

    monkeypatch.setattr(health, "datetime", Clock)


async def test_without_tls_there_is_no_identity(parts: Parts) -> None:
    assert readiness_of(parts)["identity"] is None


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (timedelta(minutes=40), ("ready", None)),
        (timedelta(minutes=10), ("degraded", "it should have been renewed")),
        (timedelta(seconds=-1), ("unavailable", "it should have been renewed")),
    ],
)
async def test_an_svid_near_its_end_is_told_and_at_its_end_nobody_can_be_answered(
    parts: Parts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    left: timedelta,
    told: tuple[str, str | None],
) -> None:
    Authority().write(tmp_path / "svid", ENGINE)
    own = own_svid(tmp_path / "svid")
    assert own is not None
    at(own.ends - left, monkeypatch)
    found = readiness_of(with_svid(parts, tmp_path))
    identity = found["identity"]
    assert (found["status"], identity["problem"]) == told
    assert (identity["spiffe"], identity["ends"]) == (ENGINE, own.ends.isoformat())
    assert identity["secondsLeft"] == left.total_seconds()


async def test_what_is_wrong_with_the_agent_is_told(parts: Parts, tmp_path: Path) -> None:
    Authority().write(tmp_path / "svid", ENGINE)
    write_problem(parts.settings.state_path, "no agent answers")
    given = with_svid(parts, tmp_path)
    assert readiness_of(given)["status"] == "ready", "the files are given: there is no agent"
    found = readiness_of(with_svid(parts, tmp_path, ZT_SPIRE_SOCKET="/agent.sock"))
    assert (found["status"], found["identity"]["problem"]) == ("degraded", "no agent answers")


async def test_an_svid_that_is_gone_is_told(parts: Parts, tmp_path: Path) -> None:
    found = readiness_of(with_svid(parts, tmp_path))
    assert (found["status"], found["identity"]["spiffe"]) == ("unavailable", None)
