"""Explanations, through the port."""

from dataclasses import replace
from typing import Any

import pytest

from engine.http import explain
from engine.http.turns import Turns
from tests.engine.http.serving import (
    STRANGER,
    Served,
    ask,
    problem,
)
from tests.engine.samples import DB, NEW, POLICY, WEB

pytestmark = pytest.mark.anyio

EXPLAIN = {"source": WEB, "destination": DB, "port": "5432"}


async def test_an_explanation_says_what_each_plane_does(served: Served) -> None:
    found = (await served.client.get("/v1/explain", params=EXPLAIN)).json()
    decision = await ask(served)
    for name in ("decision", "rule", "reason", "phase", "wouldBe", "revision"):
        assert found[name] == decision[name]
    assert {"identity", "handshake", "decision", "sidecar RBAC"} <= {
        plane["plane"] for plane in found["planes"]
    }
    assert found["file"] == "policies/policy.yaml"
    denied = await served.client.get("/v1/explain", params=EXPLAIN | {"source": NEW})
    assert denied.json()["decision"] == "DENY"
    assert denied.json()["hints"]


async def test_a_question_why_is_no_decision(served: Served) -> None:
    await served.client.get("/v1/explain", params=EXPLAIN)
    assert served.desk.outcomes == []


async def test_an_explanation_is_made_once_for_each_policy(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    original = explain._asked

    async def asked(parts: Any, source: str, *others: Any) -> dict[str, Any]:  # noqa: ANN401
        made.append(source)
        return await original(parts, source, *others)

    monkeypatch.setattr(explain, "_asked", asked)
    for _ in range(2):
        await served.client.get("/v1/explain", params=EXPLAIN)
    assert made == [WEB]
    (served.source / "policy.yaml").write_text(POLICY)
    served.reload()
    await served.client.get("/v1/explain", params=EXPLAIN)
    assert made == [WEB, WEB]


@pytest.mark.parametrize(
    "ends",
    [
        {"source": "web"},
        {"source": "--help"},
        {"source": "spiffe://hanzo.ai/east/shop/*"},
        {"destination": "spiffe://hanzo.ai/ns/shop/sa/web"},
        {"port": "0"},
        {"port": "five"},
        {"source": ""},
    ],
)
async def test_only_identities_are_explained(served: Served, ends: dict[str, str]) -> None:
    answer = await served.client.get("/v1/explain", params=EXPLAIN | ends)
    assert problem(answer) == (422, "invalid-request")
    assert answer.json()["errors"][0]["parameter"] in ends


async def test_parties_that_nobody_declares_are_explained_too(served: Served) -> None:
    for source in (STRANGER, "external:nobody", "external:--help"):
        found = await served.client.get("/v1/explain", params=EXPLAIN | {"source": source})
        assert (found.status_code, found.json()["reason"]) == (200, "unknown_source")


async def test_explanations_take_turns_and_give_up_in_time(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "_PATIENCE", 0.01)
    assert problem(await served.client.get("/v1/explain", params=EXPLAIN)) == (503, "timed-out")
    object.__setattr__(served.parts, "explaining", Turns(1, 0.1))
    async with served.parts.explaining.taken():
        answer = await served.client.get("/v1/explain", params=EXPLAIN)
    assert problem(answer) == (503, "busy")
    assert answer.headers["retry-after"] == "1"


async def test_of_a_table_alone_only_the_decision_is_told(served: Served) -> None:
    view = served.parts.decider.view
    snapshot = replace(view.snapshot, folder=None)
    served.parts.decider.view = type(view)(snapshot, view.locations)
    found = (await served.client.get("/v1/explain", params=EXPLAIN)).json()
    assert (found["decision"], found["planes"], found["hints"]) == ("ALLOW", None, [])
    assert (await served.client.get("/v1/policies")).json()["policies"] == []
    assert (await served.client.get("/v1/policies/core")).status_code == 404
