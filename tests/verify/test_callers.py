"""Dialers as they are asked from outside, in no container."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import pytest

from lab.cluster.model import LabError
from lab.nodes.pods import Pod
from lab.services import program
from lab.verify.callers import Caller, Callers, container_of


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as end:
        number: int = end.getsockname()[1]
    command = [sys.executable, "-m", "lab.services.application", "iam", f"{number}:http"]
    with subprocess.Popen(command) as process:
        yield number
        process.terminate()


@pytest.fixture
def caller() -> Iterator[Caller]:
    found = Caller(program.carried(), "hanzo/iam-1")
    yield found
    found.close()


def _question(port: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"host": "127.0.0.1", "port": port, **more}


def _answered(caller: Caller, port: int) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while not (answer := caller.ask(_question(port)))["ok"] and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer


def test_the_program_comes_with_its_command(caller: Caller, port: int) -> None:
    answer = _answered(caller, port)
    assert answer["answer"]["body"]["service"] == "iam"


def test_many_threads_ask_at_once(caller: Caller, port: int) -> None:
    _answered(caller, port)
    with ThreadPoolExecutor(16) as pool:
        numbers = range(1, 65)
        answers = pool.map(lambda n: caller.ask(_question(port, path=f"/bytes?count={n}")), numbers)
    assert [len(answer["answer"]["body"]) for answer in answers] == list(numbers)


def test_events_are_heard_until_the_end(caller: Caller, port: int) -> None:
    _answered(caller, port)
    heard: SimpleQueue[dict[str, Any]] = SimpleQueue()
    number = caller.begin(_question(port, mode="steady", interval=0.02), heard.put)
    assert heard.get(timeout=10)["event"] == "well"
    caller.stop(number)
    events = [heard.get(timeout=10)["event"]]
    while events[-1] != "end":
        events.append(heard.get(timeout=10)["event"])
    assert caller.ask(_question(port))["ok"]


def test_a_dialer_that_ends_is_told_and_not_waited_for(caller: Caller, port: int) -> None:
    _answered(caller, port)
    heard: SimpleQueue[dict[str, Any]] = SimpleQueue()
    caller.begin(_question(port, mode="steady"), heard.put)
    threading.Timer(0.3, caller.close).start()
    with pytest.raises(LabError, match="hanzo/iam-1 has ended"):
        caller.ask(_question(port, path="/stream?count=100&pause=1", timeout=60))
    events = [heard.get(timeout=10)]
    while events[-1]["event"] != "end":
        events.append(heard.get(timeout=10))
    assert events[-1]["error"] == "ended"
    with pytest.raises(LabError, match="has ended"):
        caller.ask(_question(port))


def test_a_command_that_fails_is_told_with_its_words() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such pod')"]
    failing = Caller(command, "hanzo/iam-1")
    with pytest.raises(LabError, match="hanzo/iam-1 has ended: no such pod"):
        failing.ask(_question(1))
    failing.close()


def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(LabError, match="no dialer in hanzo/iam-1"):
        Caller(["/nowhere"], "hanzo/iam-1")


def _pod(**containers: str) -> Pod:
    return Pod(
        namespace="hanzo",
        name="iam-1",
        uid="u",
        address="10.0.0.1",
        node="n",
        account="iam",
        phase="Running",
        ready=True,
        labels={},
        containers=containers,
    )


def test_the_container_is_the_services_own() -> None:
    found = _pod(**{"zt-envoy": "1", "other": "2", "app": "3"})
    assert container_of(found) == "3"
    assert container_of(_pod(**{"zt-envoy": "1", "prepare": "2", "postgres": "3"})) == "3"
    with pytest.raises(LabError, match="no container"):
        container_of(_pod(**{"zt-envoy": "1"}))
    with pytest.raises(LabError, match="nothing runs in the container"):
        Callers().of(_pod(app="f" * 64))
