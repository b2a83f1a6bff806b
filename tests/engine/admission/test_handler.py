"""The webhook follows the policy that the builder puts in force."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from engine.admission.handler import Injections, handler, reviewer
from engine.builder import build
from engine.policy.status import CURRENT
from engine.settings import from_environment
from tests.engine.admission.test_review import request
from tests.strategies import TODAY
from tests.zt.inject.samples import EAST, IMAGES, sample

POLICY = Path("tests/policies/injection.yaml")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.read_text())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def allowed(answer: Callable[[bytes], bytes], name: str) -> bool:
    namespace, pod = sample(name)
    response = json.loads(answer(request(pod, namespace)))["response"]
    assert isinstance(response["allowed"], bool)
    return response["allowed"]


def test_it_knows_what_the_policy_says_of_its_cluster(source: Path, folder: Path) -> None:
    build(source, folder, TODAY)
    assert Injections(folder, "east").current() == EAST
    west = Injections(folder, "west").current()
    assert west is not None
    assert {needs.service for needs in west.services} == {
        "ledger",
        "wg-gateway",
        "zt-policy-engine",
    }


def test_it_follows_changes_and_a_bad_one_leaves_the_last_good_one(
    source: Path, folder: Path
) -> None:
    answer = reviewer(Injections(folder, "east"), IMAGES)
    assert not allowed(answer, "deployment")  # nothing is known yet
    build(source, folder, TODAY)
    assert allowed(answer, "deployment")
    text = source.read_text()
    source.write_text(text.replace("port: 9090", "port: nine"))
    build(source, folder, TODAY)
    assert allowed(answer, "deployment")
    step = "nonCritical: enforce}"
    source.write_text(text.replace(step, "nonCritical: enforce, declaredOnly: true}"))
    build(source, folder, TODAY)
    namespace, pod = sample("deployment")
    pod["spec"]["serviceAccountName"] = "nobody"
    response = json.loads(answer(request(pod, namespace)))["response"]
    assert response["allowed"] is False


def test_a_version_that_can_not_be_read_leaves_the_last_good_one(
    source: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    injections = Injections(folder, "east")
    build(source, folder, TODAY)
    assert injections.current() == EAST
    (folder / "broken" / "injection").mkdir(parents=True)
    (folder / "broken" / "injection" / "east.json").write_text("[]")
    (folder / CURRENT).unlink()
    (folder / CURRENT).symlink_to("broken")
    assert injections.current() == EAST
    assert "could not be read" in caplog.text
    assert Injections(folder, "east").current() is None
    assert Injections(folder, "elsewhere").current() is None


def test_reviews_in_threads_are_all_of_one_policy(source: Path, folder: Path) -> None:
    build(source, folder, TODAY)
    answer = reviewer(Injections(folder, "east"), IMAGES)
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(lambda _: allowed(answer, "deployment"), range(40)))


def test_it_is_made_from_the_evaluators_settings(source: Path, tmp_path: Path) -> None:
    settings = from_environment(
        {
            "ZT_AUDIT_DSN": "postgresql:///zt",
            "ZT_POLICY_PATH": str(source),
            "ZT_STATE_PATH": str(tmp_path / "state"),
            "ZT_SVID_PATH": str(tmp_path / "svid"),
            "ZT_CLUSTER": "east",
            "ZT_WEBHOOK": "zt-injection",
            "ZT_ENVOY_IMAGE": IMAGES.envoy,
            "ZT_REDIRECT_IMAGE": IMAGES.redirect,
        }
    )
    build(settings.policy_path, settings.policy, TODAY)
    assert allowed(handler(settings), "deployment")
    with pytest.raises(AssertionError):
        handler(replace(settings, webhook=None))
