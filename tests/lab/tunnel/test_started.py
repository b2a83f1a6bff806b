"""What is put into a process of a lab is seen where such things are looked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import network
from lab.cluster.model import Layout
from lab.scan import carriers, control

_SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    made = Layout(tmp_path)
    network.add(made.internet)
    yield made
    network.remove(made)


def test_environment_and_arguments(layout: Layout) -> None:
    def seen() -> list[str]:
        found = carriers.started(layout)
        return [name.split()[-1] for name, content in found if _SECRET.encode() in content]

    with control.in_process(layout, _SECRET):
        assert seen() == ["cmdline", "environ"]
    assert seen() == []


def test_logs_of_programs_and_containers_are_read_once(layout: Layout) -> None:
    pod = layout.cluster("here") / "nodes/1/var/log/pods/hanzo_iam-1_uid/app"
    kept = layout.pod_logs / "here-1/hanzo_iam-1_uid/app"
    for folder in (pod, kept):
        folder.mkdir(parents=True)
    (pod / "0.log").write_text("runs")
    (kept / "7.0.log").hardlink_to(pod / "0.log")
    (kept / "6.0.log").write_text("is gone")
    with control.in_file(layout.run.logs, _SECRET):
        found = sorted(content.decode() for _, content in carriers.logs(layout))
    assert found == sorted([_SECRET, "runs", "is gone"])
