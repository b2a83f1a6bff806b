"""Policies as they are read through the port."""

from pathlib import Path

import pytest

from tests.engine.http.serving import (
    Served,
    problem,
    serving,
)
from tests.engine.samples import API, DB, POLICY

pytestmark = pytest.mark.anyio


async def test_policies_are_listed_as_they_are_written(served: Served) -> None:
    listed = (await served.client.get("/v1/policies")).json()
    core, evaluators = listed["policies"]
    assert (core["kind"], core["name"]) == ("ServiceAccessPolicy", "core")
    assert core["spec"]["rules"][2] == {
        "from": {"spiffe": API},
        "to": [{"spiffe": DB, "ports": [5432]}],
        "expires": "2026-11-23",
    }
    assert evaluators["kind"] == "OperatorAccessPolicy"
    assert (listed["problems"], len(listed["revision"])) == ([], 16)
    for policy in (core, evaluators):
        one = await served.client.get(f"/v1/policies/{policy['name']}")
        assert one.headers["etag"] == policy["etag"]
        assert one.json()["spec"] == policy["spec"]


async def test_a_bad_change_is_told_and_left_out(served: Served) -> None:
    before = (await served.client.get("/v1/policies")).json()
    (served.source / "policy.yaml").write_text("kind: [")
    served.reload()
    after = (await served.client.get("/v1/policies")).json()
    assert "not YAML" in after.pop("problems")[0]
    assert after | {"problems": []} == before


async def test_what_is_known_already_is_not_sent_again(served: Served) -> None:
    for accept in ("application/json", "application/yaml"):
        first = await served.client.get("/v1/policies/core", headers={"Accept": accept})
        headers = {"Accept": accept, "If-None-Match": first.headers["etag"]}
        again = await served.client.get("/v1/policies/core", headers=headers)
        assert (again.status_code, again.content) == (304, b"")


async def test_documents_of_two_kinds_may_have_one_name(tmp_path: Path) -> None:
    agent = (
        "---\napiVersion: zt.hanzo.ai/v1\nkind: AgentAccessPolicy\nmetadata: {name: core}\n"
        "spec: {clientId: helper, maxTokenLifetime: 15m, "
        "services: [{service: web, port: 5432}]}\n"
    )
    text = POLICY.replace("ports: [{port: 5432}]", "ports: [{port: 5432, protocol: http}]", 1)
    async with serving(tmp_path, text + agent) as served:
        answer = await served.client.get("/v1/policies/core")
        assert problem(answer) == (409, "ambiguous")
        found = await served.client.get("/v1/policies/core?kind=AgentAccessPolicy")
        assert found.json()["spec"]["maxTokenLifetime"] == "15m"
        answer = await served.client.get("/v1/policies/core?kind=Mesh")
        assert problem(answer) == (422, "invalid-request")
