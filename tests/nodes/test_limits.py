"""A limit is raised where it is too low, and never lowered."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.cluster.model import LabError
from lab.nodes import limits


@pytest.mark.parametrize(("before", "after"), [("128\n", "8192\n"), ("65536\n", "65536\n")])
def test_a_limit_is_only_raised(
    before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "max_user_instances"
    file.write_text(before)
    monkeypatch.setattr(limits, "_INSTANCES", file)
    limits.raise_limits()
    assert file.read_text() == after


def test_a_limit_that_cannot_be_raised_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_INSTANCES", tmp_path / "absent")
    with pytest.raises(LabError, match="max_user_instances can't be raised"):
        limits.raise_limits()
