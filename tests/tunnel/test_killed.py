"""A tunnel is killed at the step that it is to be killed at, or just beyond."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from gateway.tunnel.book import Step
from lab.check.model import BrokenError
from lab.tunnel import killed
from lab.tunnel.site import Gateway


@dataclass
class Steps:
    """A tunnel that is at one step after the other; its process does nothing."""

    pid: int
    steps: Iterator[str | None]

    def tell(self, command: str) -> dict[str, Any]:
        assert command == "status"
        return {"step": next(self.steps)}


def at(step: Step, *steps: str | None) -> tuple[Step, int]:
    with subprocess.Popen(("/bin/sleep", "60")) as process:
        try:
            found = killed._killed_at(cast("Gateway", Steps(process.pid, iter(steps))), step)
            return found, process.wait(5)
        finally:
            process.kill()


def test_it_is_killed_there() -> None:
    died = -signal.SIGKILL
    assert at(Step.STAGED, None, "staged") == (Step.STAGED, died)
    assert at(Step.SWITCHED, None, "staged", "switched") == (Step.SWITCHED, died)
    # A step may be too short to be seen.
    assert at(Step.VERIFIED, "staged", "draining") == (Step.DRAINING, died)


def test_one_that_returns_is_never_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(killed, "_REACHED", 0.05)
    with pytest.raises(BrokenError, match="it is not draining after"):
        at(Step.DRAINING, *["staged", "returning", *[None] * 100])
