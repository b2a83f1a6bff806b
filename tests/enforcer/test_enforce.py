"""When the table is replaced, and what happens if it can't be."""

import threading
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner

from lab.cluster.model import LabError
from lab.enforcer import enforce, kernel
from lab.enforcer.__main__ import main
from lab.enforcer.enforce import Enforcer, run
from lab.enforcer.model import Cluster
from tests.enforcer.scenes import PODS, SPACES, Scene, policy

NETWORKS = (ip_network("10.9.0.0/16"),)
OPEN = Scene(PODS, SPACES, ()).cluster
CLOSED = Scene(PODS, SPACES, (policy("x", "deny"),)).cluster


def test_the_table_is_replaced_only_by_another(tmp_path: Path) -> None:
    texts: list[str] = []
    enforcer = Enforcer(NETWORKS, tmp_path / "ready", texts.append)
    for cluster in (OPEN, OPEN, CLOSED, CLOSED, OPEN):
        enforcer.enforce(cluster)
    assert len(texts) == 3
    assert texts[0] == texts[2] != texts[1]
    assert (tmp_path / "ready").exists()


def test_what_the_kernel_refuses_is_not_taken_for_done(tmp_path: Path) -> None:
    answers = iter([LabError("full"), None])

    def replaced(_: str) -> None:
        if error := next(answers):
            raise error

    enforcer = Enforcer(NETWORKS, tmp_path / "ready", replaced)
    with pytest.raises(LabError):
        enforcer.enforce(OPEN)
    assert not (tmp_path / "ready").exists()
    enforcer.enforce(OPEN)
    assert (tmp_path / "ready").exists()
    assert next(answers, "asked twice") == "asked twice"


class Ended(BaseException):
    """Ends a program that runs for ever."""


def test_changes_that_come_together_are_one_and_failures_are_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(enforce, "_AGAIN", 0.01)
    changed = threading.Event()
    changed.set()
    done: list[str] = []

    def replaced(text: str) -> None:
        done.append(text)
        if len(done) == 1:
            raise LabError("full")
        # A burst, of which the end is what counts.
        changed.set()
        changed.set()

    states: Iterator[Cluster | None] = iter([None, OPEN, OPEN, CLOSED])

    def cluster() -> Cluster | None:
        changed.set()
        try:
            return next(states)
        except StopIteration:
            raise Ended from None

    with pytest.raises(Ended):
        run(Enforcer(NETWORKS, replace=replaced), cluster, changed)
    # Nothing before all is known; the second is the first again, which had failed.
    assert len(done) == 3
    assert done[0] == done[1] != done[2]
    assert "full" in caplog.text


@pytest.mark.parametrize("left", [True, False])
def test_a_table_that_is_left_stays_until_the_cluster_is_known(
    *, left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    monkeypatch.setattr(kernel, "exists", lambda: left)
    Enforcer(NETWORKS, replace=texts.append).isolate()
    if left:
        assert texts == []
    else:
        (text,) = texts
        assert "elements = { 10.9.0.0/16 }" in text


def test_a_network_that_is_none(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["--kubeconfig", str(tmp_path / "none"), "--pods", "10.9.0.0/99"]
    )
    assert done.exit_code == 2
    assert "10.9.0.0/99" in done.output
