"""What each check takes for kept, and what for broken."""

from typing import Any, cast

import pytest

from lab.check.apiserver import api_server
from lab.check.greeter import heard
from lab.check.jobs import jobs
from lab.check.metrics import families, metrics
from lab.check.model import BrokenError, Check, asking, site_of
from lab.check.names import KUBERNETES, names, peers
from lab.check.probes import asked_of
from lab.cluster.client import Client
from lab.verify.callers import Callers
from tests.check.sites import CLUSTER, POLICY, Api, Json, manifest, place, site
from zt.inject.containers import ENVOY
from zt.model import Protocol

IAM = place("iam", "iam-1", "10.240.1.5")
PROMETHEUS = place("prometheus", "prometheus-1", "10.240.1.6")
API = {
    "/api/v1/namespaces/default/services/kubernetes": {"spec": {"clusterIP": "10.241.0.1"}},
}


def held(checks: list[Check]) -> dict[str, bool]:
    return {check.subject: check.held for check in checks}


# --- DNS ------------------------------------------------------------------------------------------


def resolver(name: str, question: Json) -> Json:
    del name
    if question["host"] == KUBERNETES:
        return {"error": "silent", "peer": "10.241.0.1:9"}
    return {"error": "name", "detail": "Name or service not known"}


def test_a_name_that_is_and_one_that_is_not() -> None:
    built, _ = site(resolver, IAM, objects=API)
    assert held([*names(built)]) == {"hanzo/iam-1": True}


@pytest.mark.parametrize(
    "answer",
    [
        {"error": "silent", "peer": "10.241.0.9:9"},
        {"error": "name", "detail": "Temporary failure in name resolution"},
        {"error": "name", "detail": "Name or service not known"},
        {"error": "unreachable"},
    ],
)
def test_another_address_no_answer_and_no_name(answer: Json) -> None:
    built, _ = site(lambda *_: answer, IAM, objects=API)
    (found,) = names(built)
    assert not found.held


# --- StatefulSets ---------------------------------------------------------------------------------

REDIS = tuple(place("redis", f"redis-{n}", f"10.240.1.{20 + n}") for n in range(2))
for item in REDIS:
    item.manifest["metadata"]["ownerReferences"] = [{"kind": "StatefulSet", "name": "redis"}]
SETS = {
    "/apis/apps/v1/statefulsets": {
        "items": [
            {
                "metadata": {"namespace": "hanzo", "name": "redis"},
                "spec": {"serviceName": "redis-nodes"},
            }
        ]
    }
}


def redis(name: str, question: Json) -> Json:
    """Each reaches itself alone."""
    number = question["host"].partition(".")[0][-1]
    if question["mode"] == "udp":
        assert question["host"].endswith(".redis-nodes.hanzo.svc.cluster.local")
        return {"error": "silent", "peer": f"10.240.1.{20 + int(number)}:9"}
    ok = name[-1] == number
    return {"ok": ok, "error": None if ok else "unreachable"}


def test_peers_find_each_other_and_are_refused_as_the_policy_says() -> None:
    built, dialers = site(redis, *REDIS, IAM, objects=SETS)
    found = held([*peers(built)])
    assert len(found) == 4
    assert all(found.values())
    assert {q["port"] for _, q in dialers.asked} == {9, 6379, 7000}


def test_a_peer_that_is_reached_although_it_may_not() -> None:
    def open_to_all(name: str, question: Json) -> Json:
        return redis(name, question) | {"ok": True}

    built, _ = site(open_to_all, *REDIS, objects=SETS)
    found = held([*peers(built)])
    assert [subject for subject, good in found.items() if not good] == [
        "hanzo/redis-0 to redis-1",
        "hanzo/redis-1 to redis-0",
    ]


# --- The API server -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reaching", [{"prometheus-1"}, {"iam-1"}, set(), {"prometheus-1", "iam-1"}]
)
def test_the_api_server_is_reached_by_whom_the_policy_lets(reaching: set[str]) -> None:
    def answer(name: str, _: Json) -> Json:
        return {"ok": name in reaching, "error": "unreachable"}

    built, _ = site(answer, IAM, PROMETHEUS, objects=API)
    assert held([*api_server(built)]) == {
        "hanzo/iam-1": "iam-1" not in reaching,
        "monitoring/prometheus-1": "prometheus-1" in reaching,
    }


# --- Metrics --------------------------------------------------------------------------------------

TEXT = "# HELP a b\n# TYPE a counter\na 1\n# TYPE b gauge\nb 2\n"


def test_who_scrapes_does_and_nobody_else() -> None:
    def answer(name: str, _: Json) -> Json:
        if name == "prometheus-1":
            return {"ok": True, "answer": {"status": 200, "body": TEXT}}
        return {"ok": False, "error": "unreachable"}

    evaluator = place("zt-policy-engine", "engine-1", "10.240.1.7")
    built, dialers = site(answer, IAM, PROMETHEUS, evaluator)
    found = held([*metrics(built)])
    assert all(found.values())
    assert "zt-policy-engine:8054" in found
    assert {"the sidecar of hanzo/iam-1", "hanzo/iam-1 at monitoring/prometheus-1"} < found.keys()
    assert ("prometheus-1", "/metrics") in {(n, q["path"]) for n, q in dialers.asked}


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": True, "answer": {"status": 403, "body": TEXT}},
        {"ok": True, "answer": {"status": 200, "body": {"service": "iam"}}},
        {"ok": False, "error": "unreachable"},
    ],
)
def test_a_scrape_that_gives_no_metrics(answer: Json) -> None:
    built, _ = site(lambda *_: answer, PROMETHEUS)
    scrape = next(metrics(built))
    assert scrape.name == "scrape"
    assert not scrape.held


def test_a_stranger_that_scrapes() -> None:
    built, _ = site(
        lambda *_: {"ok": True, "answer": {"status": 200, "body": TEXT}}, IAM, PROMETHEUS
    )
    found = [check for check in metrics(built) if check.name == "scrape refused"]
    assert held(found) == {"hanzo/iam-1 at monitoring/prometheus-1": False}


def test_families() -> None:
    assert families(TEXT) == 2
    assert families({"a": 1}) == families("nothing") == 0


# --- Greetings ------------------------------------------------------------------------------------


def test_silence_and_an_alert_are_no_greeting() -> None:
    assert "nothing" in heard(b"", "silent")
    assert "alert" in heard(b"\x15\x03\x03\x00\x02\x02\x28", "")
    with pytest.raises(BrokenError, match="ledger"):
        heard(b"\x0a\x00\x00\x00ledger", "")


def test_each_protocol_is_asked_as_it_speaks() -> None:
    assert asking(Protocol.HTTP) == {"mode": "http"}
    assert asking(Protocol.TCP)["greeted"]
    assert asking(Protocol.POSTGRES) == {"mode": "line"}


# --- Jobs -----------------------------------------------------------------------------------------


def job_site(state: Json, *, sidecar: bool = True, succeeded: int = 1) -> list[Check]:
    job = {
        "metadata": {"namespace": "hanzo", "name": "cloud-job", "uid": "j"},
        "spec": {"template": {"spec": {"serviceAccountName": "cloud"}}},
        "status": {"succeeded": succeeded},
    }
    other = {**job, "spec": {"template": {"spec": {"serviceAccountName": "stranger"}}}}
    pod = manifest("cloud", "cloud-job-1", "10.240.1.9")
    pod["metadata"]["ownerReferences"] = [{"kind": "Job", "uid": "j"}]
    pod["status"]["phase"] = "Succeeded"
    ended = {"terminated": {"exitCode": 0}}
    pod["status"]["containerStatuses"][0] |= {"state": ended, "containerID": "containerd://none"}
    pod["status"]["initContainerStatuses"][0] |= {
        "state": state,
        "containerID": "containerd://no-such-container",
        "name": ENVOY if sidecar else "other",
    }
    objects = {
        "/apis/batch/v1/jobs": {"items": [job, other]},
        "/api/v1/pods": {"items": [pod]},
    }
    built, _ = site(lambda *_: {}, objects=objects)
    return [*jobs(built)]


def test_a_job_ends_and_its_sidecar_after_it() -> None:
    (found,) = job_site({"terminated": {"exitCode": 0}})
    assert found == Check(
        "Job", "hanzo/cloud-job", held=True, detail="cloud-job-1 ended, its sidecar with 0"
    )


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ({"state": {"running": {}}}, "has not ended"),
        ({"state": {"terminated": {"exitCode": 0}}, "sidecar": False}, "had no sidecar"),
        ({"state": {"terminated": {"exitCode": 0}}, "succeeded": 0}, "it has not ended"),
    ],
)
def test_a_job_that_goes_on_or_had_no_sidecar(broken: dict[str, Any], complaint: str) -> None:
    (found,) = job_site(**broken)
    assert not found.held
    assert complaint in found.detail


# --- Probes ---------------------------------------------------------------------------------------


def test_probes_of_the_own_containers_with_their_ports() -> None:
    app = {
        "name": "app",
        "ports": [{"name": "http", "containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/a", "port": 15022}},
        "livenessProbe": {"tcpSocket": {"port": "http"}},
        "startupProbe": {"exec": {"command": ["true"]}},
    }
    car = {"name": ENVOY, "readinessProbe": {"httpGet": {"path": "/ready", "port": 15021}}}
    assert [*asked_of({"spec": {"containers": [app, car]}})] == [
        ("app", "startupProbe", None, ""),
        ("app", "readinessProbe", 15022, "/a"),
        ("app", "livenessProbe", 8000, ""),
    ]


# --- Which pods -----------------------------------------------------------------------------------


def test_pods_of_declared_services_that_stay() -> None:
    items = [manifest("iam", f"iam-{n}", f"10.240.1.{n}") for n in range(6)]
    items[1]["metadata"]["deletionTimestamp"] = "2026-11-30T08:00:00Z"
    items[2]["metadata"]["ownerReferences"] = [{"kind": "Job", "name": "j"}]
    items[3]["spec"]["serviceAccountName"] = "stranger"
    items[4]["status"]["phase"] = "Pending"
    items[5]["metadata"]["labels"] = {"job": "of-the-same-account"}
    api = cast("Client", Api({"/api/v1/pods": {"items": items}}))
    built = site_of(CLUSTER, POLICY, api, (), cast("Callers", None))
    assert [(found.name, found.is_served) for found in built.places] == [
        ("hanzo/iam-0", True),
        ("hanzo/iam-5", False),
    ]
    assert built.of("iam") == built.places
