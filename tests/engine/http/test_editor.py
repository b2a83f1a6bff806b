"""The program that makes a change, on a ConfigMap behind a real API server."""

import io
import json
from typing import Any

import pytest

from engine.http.editor import COMMIT, serve
from engine.kubernetes.client import Kubernetes, config_map_path
from tests.engine.http.serving import WITH_RIGHTS
from tests.engine.http.test_edit import CORE, tag
from tests.engine.kubernetes.apiserver import Cluster, serving

Json = dict[str, Any]
PATH = config_map_path("zt", "policies")


def cluster() -> Cluster:
    metadata = {"name": "policies", "resourceVersion": "7"}
    return Cluster(config_maps={PATH: {"metadata": metadata, "data": {"policy.yaml": WITH_RIGHTS}}})


def asked(api: Kubernetes, **changes: object) -> bytes:
    place = {"host": api.host, "port": api.port, "folder": str(api.folder)}
    source = {"config_map": {"namespace": "zt", "name": "policies"}, "kubernetes": place}
    request: Json = {"name": "core", "kind": None, "body": CORE, "is_json": False}
    request |= {"tags": [tag("core")], "today": "2026-11-23", "source": source}
    return json.dumps(request | changes).encode() + b"\n"


def told(request: bytes) -> tuple[int, list[Json]]:
    """Exit code and answers."""
    answers = io.BytesIO()
    code = serve(io.BytesIO(request), answers)
    return code, [json.loads(line) for line in answers.getvalue().splitlines()]


def test_a_config_map_is_changed_when_told_to() -> None:
    server = cluster()
    with serving(server) as api:
        code, answers = told(asked(api) + COMMIT)
    assert (code, [*answers[0], *answers[1]]) == (0, ["prepared", "done"])
    assert CORE.rstrip() in server.config_maps[PATH]["data"]["policy.yaml"]


@pytest.mark.parametrize("end", [b"", b"no\n", b"commit"])
def test_it_stays_as_it_was_when_not_told_to(end: bytes) -> None:
    server = cluster()
    with serving(server) as api:
        code, answers = told(asked(api) + end)
    assert (code, len(answers)) == (1, 1)
    assert server.config_maps[PATH]["data"]["policy.yaml"] == WITH_RIGHTS


def test_a_conflict_is_a_change_that_came_too_late() -> None:
    server = cluster()

    class Told(io.BytesIO):
        """Changes the ConfigMap between the two steps."""

        def readline(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                server.config_maps[PATH]["metadata"]["resourceVersion"] = "8"
            return super().readline(size)

    with serving(server) as api:
        answers = io.BytesIO()
        assert serve(Told(asked(api) + COMMIT), answers) == 1
    refused = json.loads(answers.getvalue().splitlines()[1])["refused"]
    assert (refused["status"], refused["code"]) == (412, "stale")


@pytest.mark.parametrize(("refuse", "said"), [([500], "500"), ([403], "403")])
def test_a_server_that_refuses_is_told(refuse: list[int], said: str) -> None:
    server = cluster()
    server.refuse = refuse
    with serving(server) as api:
        code, answers = told(asked(api))
    assert (code, answers[0]["refused"]["code"]) == (1, "source-unavailable")
    assert said in answers[0]["refused"]["detail"]
