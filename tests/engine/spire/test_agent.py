"""The evaluator's SVID as its agent gives it, withholds it, and comes back."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc
import pytest

from engine.spire import agent as module
from engine.spire.agent import Follower, follow
from engine.spire.status import read_problem
from engine.tls import SvidFiles
from tests.engine.samples import ENGINE, WEB, Authority
from tests.engine.spire.workload_api import Agent, der_of, given, serving
from tests.waiting import eventually, running


@dataclass
class Site:
    """A follower's places, and the pauses that it made."""

    socket: Path
    folder: Path
    state: Path
    pauses: list[float] = field(default_factory=list)

    @property
    def problem(self) -> str:
        return read_problem(self.state) or ""

    def has(self, svid_chain: bytes) -> bool:
        try:
            return der_of((self.folder / "svid.pem").read_bytes()) == svid_chain
        except OSError:
            return False


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A follower, in a thread."""
    made = Site(tmp_path / "agent.sock", tmp_path / "svid", tmp_path / "state")
    for folder in (made.folder, made.state):
        folder.mkdir()
    follower = Follower(made.socket, made.folder, made.state)
    with running(partial(follow, follower), ends=15.0) as made.pauses:
        yield made


def test_each_svid_that_comes_is_taken(site: Site, authority: Authority) -> None:
    agent = Agent()
    with serving(site.socket, agent):
        for _ in range(3):
            svid = given(authority, ENGINE)
            agent.say(svid)
            eventually(lambda chain=svid.chain: site.has(chain))  # type: ignore[misc]
        assert (agent.calls, site.problem) == (1, "")


def test_without_a_registration_it_says_so_and_asks_until_there_is_one(
    site: Site, authority: Authority
) -> None:
    agent = Agent(refusal=(grpc.StatusCode.PERMISSION_DENIED, "no identity issued"))
    with serving(site.socket, agent):
        eventually(lambda: agent.calls > 5)
        assert "knows no registration of this process (no identity issued)" in site.problem
        assert str(site.socket) in site.problem
        agent.refusal = None
        svid = given(authority, ENGINE)
        agent.say(svid)
        eventually(lambda: site.has(svid.chain) and not site.problem)
    assert all(pause <= 5 for pause in site.pauses)
    assert max(site.pauses[:8]) > 1, "it asks less and less often"


def test_while_the_agent_is_away_the_last_svid_stays(site: Site, authority: Authority) -> None:
    first, second = given(authority, ENGINE), given(authority, ENGINE)
    eventually(lambda: "no agent answers at" in site.problem)
    agent = Agent()
    with serving(site.socket, agent):
        agent.say(first)
        eventually(lambda: site.has(first.chain) and not site.problem)
    eventually(lambda: bool(site.problem))
    assert site.has(first.chain)
    SvidFiles(site.folder)
    with serving(site.socket, agent):
        agent.say(second)
        eventually(lambda: site.has(second.chain) and not site.problem)


def test_a_call_that_ends_is_made_again(site: Site, authority: Authority) -> None:
    agent = Agent()
    with serving(site.socket, agent):
        for _ in range(3):
            svid = given(authority, ENGINE)
            agent.say(svid)
            eventually(lambda chain=svid.chain: site.has(chain))  # type: ignore[misc]
            before = agent.calls
            agent.end_calls()
            eventually(lambda before=before: agent.calls > before)  # type: ignore[misc]


def test_a_call_that_is_too_old_is_made_again_without_a_word(
    site: Site, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ASK_AGAIN", 1.0)
    agent = Agent()
    with serving(site.socket, agent):
        agent.say(given(authority, ENGINE))
        # Each call lasts for a second, and a pause is twice as long as the one before.
        eventually(lambda: agent.calls > 3, patience=60)
        assert site.problem == "" or "no agent answers" in site.problem


@pytest.mark.parametrize("message", [b"\xff", b""])
def test_what_is_no_svid_leaves_the_last_one(
    site: Site, authority: Authority, message: bytes
) -> None:
    good, better = given(authority, ENGINE), given(authority, ENGINE)
    agent = Agent()
    with serving(site.socket, agent):
        agent.say(good)
        eventually(lambda: site.has(good.chain))
        agent.say_bytes(message)
        eventually(lambda: bool(site.problem))
        assert site.has(good.chain)
        agent.say(better)
        eventually(lambda: site.has(better.chain) and not site.problem)


def test_of_several_the_first_is_used(site: Site, authority: Authority) -> None:
    mine, other = given(authority, ENGINE), given(authority, WEB)
    agent = Agent()
    with serving(site.socket, agent):
        agent.say(mine, other)
        eventually(lambda: site.has(mine.chain))
