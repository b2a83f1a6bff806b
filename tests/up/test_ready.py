"""What counts as running, told from what the API says."""

from typing import Any

import pytest

from lab.up.ready import counted, unready, waiting
from tests.up.fake import Fake

Json = dict[str, Any]


def workload(generation: int = 2, seen: int = 2, replicas: int = 3, **status: int) -> Json:
    return {
        "metadata": {"namespace": "hanzo", "name": "iam", "generation": generation},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": seen, **status},
    }


@pytest.mark.parametrize(
    ("item", "ready"),
    [
        (workload(updatedReplicas=3, readyReplicas=3), 3),
        (workload(updatedReplicas=1, readyReplicas=3), 1),
        (workload(updatedReplicas=3, readyReplicas=2), 2),
        (workload(updatedReplicas=3), 0),
        (workload(seen=1, updatedReplicas=3, readyReplicas=3), 0),
    ],
    ids=["all", "old ones among them", "one not ready", "none ready", "not seen yet"],
)
def test_pods_count_that_are_ready_in_their_newest_form(item: Json, ready: int) -> None:
    assert counted("deployments", item) == (ready, 3)


def test_a_daemon_set_wants_one_pod_until_somebody_has_counted_the_nodes() -> None:
    fresh = {"metadata": {"generation": 1}, "spec": {}, "status": {}}
    assert counted("daemonsets", fresh) == (0, 1)
    known = {
        "observedGeneration": 1,
        "desiredNumberScheduled": 2,
        "updatedNumberScheduled": 2,
        "numberReady": 2,
    }
    assert counted("daemonsets", {**fresh, "status": known}) == (2, 2)


def test_what_does_not_run_is_named_with_its_kind() -> None:
    job = {
        "metadata": {"namespace": "hanzo", "name": "migrate"},
        "spec": {"completions": 1},
        "status": {"active": 1},
    }
    api = Fake(
        {
            "/apis/apps/v1/deployments": [workload(updatedReplicas=3, readyReplicas=3)],
            "/apis/apps/v1/statefulsets": [workload(updatedReplicas=3, readyReplicas=1)],
            "/apis/batch/v1/jobs": [job],
        }
    )
    assert [str(item) for item in waiting(api)] == ["hanzo/iam (1 of 3)", "hanzo/migrate (0 of 1)"]


def test_why_a_pod_is_not_ready_comes_from_the_container_that_is_not() -> None:
    waits = {"name": "zt", "ready": False, "state": {"waiting": {"message": "no such image"}}}
    fine = {"name": "envoy", "ready": True, "state": {"running": {}}}
    pod = {
        "metadata": {"namespace": "hanzo", "name": "engine"},
        "status": {"phase": "Pending", "containerStatuses": [fine, waits]},
    }
    ended = {"metadata": {"namespace": "hanzo", "name": "job"}, "status": {"phase": "Succeeded"}}
    api = Fake({"/api/v1/pods": [pod, ended]})
    assert list(unready(api)) == [("hanzo/engine", "zt: no such image")]
