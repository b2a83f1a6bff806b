"""What the attack does in a pod's network: counts, plants, takes the redirect away and back."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from lab.attack import listener
from lab.attack.counting import TABLE, Flow, arrivals, counted
from lab.attack.network import PLANTED
from lab.attack.undo import Undo, nft, undone
from lab.cluster.client import Client
from lab.cluster.model import LabError
from lab.mesh.processes import identify
from lab.verify.network import within

POD, OUTSIDE = "10.97.0.2", "10.97.0.1"
REDIRECT = """\
add table inet zt
add chain inet zt inbound { type nat hook prerouting priority dstnat; policy accept; }
add rule inet zt inbound iifname != "lo" tcp dport 80 redirect to :8080
"""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def inside(namespace: str, *command: str) -> tuple[str, ...]:
    return ("nsenter", f"--net=/run/netns/{namespace}", "--", *command)


@pytest.fixture
def outside() -> Iterator[str]:
    """A network namespace, beside which ``<name>-pod`` is a pod's."""
    name = f"zt-{uuid.uuid4().hex[:6]}"
    pod = f"{name}-pod"
    for namespace in (name, pod):
        run("ip", "netns", "add", namespace)
        run("ip", "-n", namespace, "link", "set", "lo", "up")
    try:
        ends = ("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", pod)
        run("ip", "-n", name, *ends)
        for where, address in ((name, OUTSIDE), (pod, POD)):
            run("ip", "-n", where, "address", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", where, "link", "set", "eth0", "up")
        yield name
    finally:
        for namespace in (name, pod):
            run("ip", "netns", "delete", namespace)


@pytest.fixture
def pid(outside: str) -> Iterator[int]:
    """A process of the pod."""
    with subprocess.Popen(inside(f"{outside}-pod", "sleep", "60")) as process:
        # Until it has entered, it is somewhere else.
        own = Path(f"/run/netns/{outside}-pod").stat().st_ino
        while Path(f"/proc/{process.pid}/ns/net").stat().st_ino != own:
            pass
        yield process.pid
        process.kill()


def dialled(outside: str, port: int) -> str:
    def dial() -> str:
        try:
            with socket.create_connection((POD, port), 2) as connection:
                return connection.recv(64).decode()
        except ConnectionRefusedError:
            return "refused"

    return within(Path(f"/run/netns/{outside}"), dial)


def sent(outside: str, port: int) -> str:
    def send() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.settimeout(2)
            end.connect((POD, port))
            end.send(b"hello")
            return end.recv(64).decode()

    return within(Path(f"/run/netns/{outside}"), send)


@contextlib.contextmanager
def planted(outside: str, *ports: int) -> Iterator[None]:
    command = inside(f"{outside}-pod", sys.executable, "-S", listener.__file__, *map(str, ports))
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def test_packets_are_counted_by_source_and_port_whatever_becomes_of_them(
    outside: str, pid: int
) -> None:
    nft(pid, REDIRECT)
    with counted(pid), planted(outside, PLANTED, 53):
        assert arrivals(pid) == {}
        assert dialled(outside, 22) == "refused"
        # The redirect changes the port; what is counted is what was dialled.
        assert dialled(outside, 80) == "refused"
        assert sent(outside, 53) == "here I am\n"
        found = arrivals(pid)
    assert found[Flow(OUTSIDE, "tcp", 22)] == 1
    assert found[Flow(OUTSIDE, "tcp", 80)] == 1
    assert found[Flow(OUTSIDE, "udp", 53)] == 1
    assert TABLE not in run(*inside(f"{outside}-pod", "nft", "list", "tables"))


def test_a_packet_that_never_came_is_not_counted(outside: str, pid: int) -> None:
    """As where a NetworkPolicy drops it before it is at the pod."""
    drop = "chain out { type filter hook output priority 0; tcp dport 22 drop; }"
    run(*inside(outside, "nft", f"table inet away {{ {drop}; }}"))
    with counted(pid):
        with pytest.raises(TimeoutError):
            dialled(outside, 22)
        assert arrivals(pid) == {}


def test_what_is_planted_answers_and_goes_with_its_block(outside: str) -> None:
    with planted(outside, PLANTED):
        assert dialled(outside, PLANTED) == "here I am\n"
    assert dialled(outside, PLANTED) == "refused"


def test_the_redirect_is_put_back_as_it_was(outside: str, pid: int, tmp_path: Path) -> None:
    nft(pid, REDIRECT)
    rules = run(*inside(f"{outside}-pod", "nft", "list", "table", "inet", "zt"))
    process = identify(pid)
    assert process
    undo = Undo(tmp_path / "attack.json", cast("Callable[[str], Client]", None))
    step = undo.nft(process, f"table inet zt\ndelete table inet zt\n{rules}")
    with planted(outside, 8080), undone(undo, step):
        assert dialled(outside, 80) == "here I am\n"
        nft(pid, "delete table inet zt\n")
        assert dialled(outside, 80) == "refused"
    assert run(*inside(f"{outside}-pod", "nft", "list", "table", "inet", "zt")) == rules
    assert undo.is_empty


def test_nft_says_what_it_does_not_take(pid: int) -> None:
    with pytest.raises(LabError, match="nft refuses"):
        nft(pid, "nonsense\n")
