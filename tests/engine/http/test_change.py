"""Changes of policy, through the port to the file and the trail."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.audit.outcome import Outcome, record_id
from engine.http import change as change_module
from engine.http.programs import started
from tests.engine.http.serving import (
    ON_CALL,
    READER,
    STRANGER,
    WITH_RIGHTS,
    WRITER,
    Served,
    serving,
)
from tests.engine.http.test_edit import CORE
from tests.engine.samples import API, WEB, Deferred, Desk, eventually
from zt.decide import Verdict

pytestmark = pytest.mark.anyio

PATH = "/v1/policies/core"
YAML = {"Content-Type": "application/yaml"}
WIDER = CORE.replace("[5432]}]", f'[5432]}}, {{spiffe: "{API}", ports: [5432]}}]')


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as found:
        yield found


async def tag_of(served: Served, path: str = PATH) -> str:
    answer = await served.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.headers["etag"]


async def put(served: Served, body: str = CORE, path: str = PATH, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await served.client.put(path, content=body.encode(), headers=YAML | sent)


def outcomes(served: Served) -> list[Outcome]:
    return [outcome for outcome in served.desk.outcomes if outcome.rule.startswith("policy/")]


def text(served: Served) -> str:
    return (served.source / "policy.yaml").read_text()


async def test_a_change_is_checked_recorded_written_and_told(served: Served) -> None:
    before = await tag_of(served)
    answer = await put(served, CORE, if_match=before)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert "# one rule, and a comment" in text(served)
    assert (told["name"], told["file"]) == ("core", "policy.yaml")
    assert told["etag"] == answer.headers["etag"] != before
    assert [(edge["source"], edge["destination"]) for edge in told["diff"]["gained"]] == []
    assert {edge["source"] for edge in told["diff"]["lost"]} == {WEB, "external:internet"}
    assert told["planes"]["follow"][0]["plane"] == "decision"
    waiting = {item["plane"]: item["clusters"] for item in told["planes"]["wait"]}
    assert waiting.keys() >= {"handshake", "sidecar RBAC", "NetworkPolicy"}
    assert waiting["handshake"] == ["east"]
    assert waiting.keys().isdisjoint({"identity", "tunnel", "audit", "admission"})
    (outcome,) = outcomes(served)
    assert (outcome.verdict, outcome.rule, outcome.reason, outcome.layer) == (
        Verdict.ALLOW,
        "policy/core",
        "policy_changed",
        "api",
    )
    assert outcome.destination_port == 8054
    assert told["decisionId"] == str(record_id(served.desk.spool.writer, 1))
    served.reload()
    assert await tag_of(served) == told["etag"]
    assert served.parts.snapshot.revision != outcome.revision


async def test_a_change_is_the_callers_by_its_certificate(served: Served) -> None:
    tag = await tag_of(served)
    served.become(WRITER)
    forged = {"X-Forwarded-Client-Cert": f"URI={READER}"}
    answer = await served.client.put(PATH, content=CORE, headers=YAML | forged | {"If-Match": tag})
    assert answer.status_code == 200
    assert outcomes(served)[-1].source_id == WRITER


@pytest.mark.parametrize(
    ("who", "code"),
    [
        (READER, "not-allowed"),
        (ON_CALL, "step-up-required"),
        (STRANGER, "unknown-caller"),
        (None, "unknown-caller"),
    ],
)
async def test_who_has_no_right_changes_nothing_and_is_recorded(
    served: Served, who: str | None, code: str
) -> None:
    tag, before = await tag_of(served), text(served)
    served.become(who)
    answer = await put(served, WIDER, if_match=tag)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (403, code)
    assert text(served) == before
    (outcome,) = outcomes(served)
    assert (outcome.source_id, outcome.verdict) == (who, Verdict.DENY)
    assert outcome.reason == "policy_change_refused"


async def test_a_change_names_what_it_changes(served: Served) -> None:
    before = text(served)
    assert (await put(served)).status_code == 428
    for stale in ('"0123"', 'W/"0123"', "junk", f"W/{await tag_of(served)}"):
        answer = await put(served, if_match=stale)
        assert answer.status_code == 412
        assert answer.json()["type"].endswith("/stale")
    assert text(served) == before
    assert {outcome.verdict for outcome in outcomes(served)} == {Verdict.DENY}
    tags = f'"0123", {await tag_of(served)}'
    assert (await put(served, if_match=tags)).status_code == 200
    assert (await put(served, if_match="*")).status_code == 200


async def test_the_yaml_of_a_policy_is_read_changed_and_put_back(served: Served) -> None:
    read = await served.client.get(PATH, headers={"Accept": "application/yaml"})
    assert read.headers["content-type"].startswith("application/yaml")
    assert read.text in WITH_RIGHTS
    body = read.text.replace("expires: 2026-11-23", "expires: 2027-11-23  # longer")
    answer = await put(served, body, if_match=read.headers["etag"])
    assert answer.status_code == 200
    assert text(served) == WITH_RIGHTS.replace(read.text, body)
    assert (await put(served, body, if_match=read.headers["etag"])).status_code == 412


async def test_json_is_read_changed_and_put_back(served: Served) -> None:
    read = await served.client.get(PATH)
    policy = read.json()
    del policy["spec"]["rules"][1:]
    headers = {"If-Match": read.headers["etag"]}
    answer = await served.client.put(PATH, json=policy, headers=headers)
    assert answer.status_code == 200, answer.text
    served.reload()
    assert (await served.client.get(PATH)).json() == policy


async def test_a_new_policy_is_added_where_none_of_its_name_is(served: Served) -> None:
    body = CORE.replace("name: core", "name: more")
    path = "/v1/policies/more"
    assert (await put(served, body, path, if_match="*")).status_code == 404
    answer = await put(served, body, path, if_none_match="*")
    assert answer.status_code == 201, answer.text
    assert (served.source / "more.yaml").read_text() == body
    assert (await put(served, body, path, if_none_match="*")).status_code == 412


async def test_what_check_finds_is_told_with_its_places(served: Served) -> None:
    before = text(served)
    body = CORE.replace("5432", "5433").replace("/web", "/wbe")
    answer = await put(served, body, if_match=await tag_of(served))
    assert answer.status_code == 422
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    found = {finding["code"]: finding for finding in problem["findings"]}
    assert found["unknown-service"]["file"] == "policy.yaml"
    assert "did you mean" in found["unknown-service"]["message"]
    assert body.splitlines()[found["unknown-service"]["bodyLine"] - 1].strip().startswith("- from")
    assert text(served) == before
    assert outcomes(served)[-1].reason == "policy_change_refused"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
        ("application/yaml; charset=utf-8", 200),
        ("TEXT/YAML", 200),
    ],
)
async def test_a_body_says_what_it_is(served: Served, content_type: str, status: int) -> None:
    headers = {"Content-Type": content_type, "If-Match": "*"}
    answer = await served.client.put(PATH, content=CORE, headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize("name", ["UPPER", "a" * 64, "-a", "%2e%2e", "a%2Fb", "a b"])
async def test_a_name_that_none_can_be_is_refused(served: Served, name: str) -> None:
    answer = await put(served, path=f"/v1/policies/{name}", if_match="*")
    assert answer.status_code in (404, 422)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_of_two_changes_at_once_one_is_made(served: Served) -> None:
    tag = await tag_of(served)
    answers = await asyncio.gather(
        put(served, WIDER, if_match=tag), put(served, CORE, if_match=tag)
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    made = WIDER if answers[0].status_code == 200 else CORE
    assert made.rstrip() in text(served)


async def test_what_cannot_be_recorded_is_not_changed(tmp_path: Path) -> None:
    desk = Desk()
    async with serving(tmp_path, desk=desk) as served:
        tag, before = await tag_of(served), text(served)
        desk.spool.available = False
        answer = await put(served, if_match=tag)
        assert (answer.status_code, text(served)) == (503, before)
        assert answer.json()["type"].endswith("/audit-unavailable")


async def test_a_change_waits_until_its_record_is_safe(tmp_path: Path) -> None:
    durability = Deferred()
    desk = Desk(durability=durability)
    async with serving(tmp_path, desk=desk) as served:
        before = text(served)
        for safe in (False, True):
            task = asyncio.create_task(put(served, WIDER, if_match="*"))
            await eventually(lambda: bool(durability.waiting))
            assert text(served) == before
            durability.settle(safe)
            answer = await task
            assert answer.status_code == (200 if safe else 503)
        assert text(served) != before


def editors() -> list[int]:
    """Process IDs of the editors that run below this process."""
    files = (file.read_text() for file in Path("/proc/self/task").glob("*/children"))
    children = [int(pid) for text in files for pid in text.split()]
    return [
        pid
        for pid in children
        if b"engine.http.editor" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_an_editor_that_dies_before_it_writes_leaves_all_as_it_was(tmp_path: Path) -> None:
    durability = Deferred()
    async with serving(tmp_path, desk=Desk(durability=durability)) as served:
        before = text(served)
        task = asyncio.create_task(put(served, WIDER, if_match="*"))
        await eventually(lambda: bool(durability.waiting))
        (editor,) = editors()
        os.kill(editor, signal.SIGKILL)
        durability.settle(safe=True)
        await eventually(lambda: bool(durability.waiting))
        durability.settle(safe=True)
        answer = await task
        assert answer.status_code == 503
        assert text(served) == before
        # A record says that it was changed, and a later one that it was not.
        assert [outcome.verdict for outcome in outcomes(served)] == [Verdict.ALLOW, Verdict.DENY]


async def test_whoever_asked_may_die_and_nothing_is_written(served: Served) -> None:
    """The editor's pipes end, as they do when the evaluator is killed."""
    asked = {
        "source": {"path": str(served.source)},
        "name": "core",
        "kind": None,
        "body": WIDER,
        "is_json": False,
        "tags": None,
        "today": "2026-11-23",
    }
    before = text(served)
    async with started("-m", "engine.http.editor") as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(json.dumps(asked).encode() + b"\n")
        assert json.loads(await program.stdout.readline())["prepared"]["file"] == "policy.yaml"
        program.stdin.close()
        assert await program.wait() == 1
    assert text(served) == before


async def test_no_program_is_left_and_no_secret_given_to_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZT_AUDIT_DSN", "password=hunter2")
    durability = Deferred()
    async with serving(tmp_path, desk=Desk(durability=durability)) as served:
        task = asyncio.create_task(put(served, WIDER, if_match="*"))
        await eventually(lambda: bool(durability.waiting))
        (editor,) = editors()
        assert b"hunter2" not in environment_of(editor)
        assert os.getpriority(os.PRIO_PROCESS, editor) > 0
        durability.settle(safe=True)
        assert (await task).status_code == 200
    assert editors() == []


async def test_where_only_a_table_is_given_nothing_can_be_changed(
    served: Served, tmp_path: Path
) -> None:
    compiled = replace(served.parts.settings, policy_path=tmp_path / "decisions.json")
    object.__setattr__(served.parts, "settings", compiled)
    answer = await put(served, if_match="*")
    assert answer.status_code == 409


async def test_read_only_policies_are_said_to_be(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a mounted ConfigMap is where the API of its cluster is not configured."""

    async def refused(*_: Any) -> dict[str, Any]:  # noqa: ANN401
        refusal = {"status": 409, "code": "read-only", "detail": "no", "findings": []}
        return {"refused": refusal}

    monkeypatch.setattr(change_module, "_told", refused)
    answer = await put(served, if_match="*")
    assert (answer.status_code, answer.json()["detail"]) == (409, "no")


def test_all_that_an_editor_refuses_has_a_title() -> None:
    codes = set()
    for module in ("edit", "editor"):
        source = (Path(change_module.__file__).parent / f"{module}.py").read_text()
        codes |= set(re.findall(r'ChangeRefused\(\d+, "([a-z-]+)"', source))
    assert codes <= change_module._TITLES.keys()
