import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.cluster.model import LabError
from lab.faults.tally import Edge, Flow, tally
from lab.faults.traffic import Dialled, Traffic, is_quiet, running, until_steady
from lab.verify.callers import Caller

ROOT = Path(__file__).parents[2]
POD = "team/caller-0"
EDGE = Edge("spiffe://hanzo.ai/c/team/caller", "spiffe://hanzo.ai/c/team/server", 80)
PATIENCE = 20.0


class Server:
    """Answers lines, on all connections, for as long as it is meant to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.answers = True
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self.answers:
                self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            else:
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while connection.recv(1000):
                    connection.sendall(b"{}\n")
            except OSError:
                pass
            self._open.discard(connection)

    def cut(self) -> None:
        for connection in list(self._open):
            connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


def flow(server: Server, *, declared: bool = True) -> Dialled:
    asked = {
        "mode": "steady",
        "speaks": "line",
        "host": "127.0.0.1",
        "port": server.port,
        "interval": 0.05,
        "timeout": 2.0,
        "sums": 0.1,
    }
    edge = Flow(EDGE, POD, frozenset({POD}), declared=declared, how="" if declared else "badly")
    return Dialled(edge, asked)


def dial(pod: str) -> Caller:
    return Caller(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + _CALLER], pod
    )


def nobody(pod: str) -> Caller:
    raise LabError(f"there is no pod {pod}")


_CALLER = "from lab.services.caller import main; sys.exit(main([]))"


@contextmanager
def steady(server: Server, *, declared: bool = True) -> Iterator[Traffic]:
    with running(dial, [flow(server, declared=declared)]) as traffic:
        yield traffic


def test_what_is_answered_is_counted(server: Server) -> None:
    with steady(server) as traffic:
        assert until_steady(traffic, quiet=0.5, patience=PATIENCE)
        found = tally(traffic.end())
    assert found.opened > 5
    assert found.asked > 5
    assert (found.failed, found.cut, found.tried) == ((), (), 0)
    assert found.acknowledged == {EDGE: found.opened}


def test_a_cut_is_seen_and_its_end_as_well(server: Server) -> None:
    with steady(server) as traffic:
        assert until_steady(traffic, quiet=0.3, patience=PATIENCE)
        server.answers = False
        server.cut()
        time.sleep(0.5)
        assert not is_quiet(traffic.current(), time.time())
        server.answers = True
        assert until_steady(traffic, quiet=0.3, patience=PATIENCE)
        found = tally(traffic.end())
    assert len(found.cut) == 1
    assert found.failed
    assert 0.3 < found.outage < 5


def test_what_should_be_refused_and_is_not_has_passed(server: Server) -> None:
    with steady(server, declared=False) as traffic:
        time.sleep(1.0)
        found = tally(traffic.end())
    assert found.passed == found.tried > 5


def test_a_caller_that_was_killed_is_started_again_and_its_counts_stay(server: Server) -> None:
    with steady(server) as traffic:
        assert until_steady(traffic, quiet=0.5, patience=PATIENCE)
        (pod,) = traffic._pods.values()
        pod.caller.close()
        deadline = time.monotonic() + PATIENCE
        while pod.lives and time.monotonic() < deadline:
            time.sleep(0.01)
        assert traffic.missing() == (POD,)
        before = tally(traffic.seen())
        assert until_steady(traffic, quiet=0.3, patience=PATIENCE)
        after = tally(traffic.end())
    assert before.opened > 5
    assert after.opened > before.opened
    assert after.failed == ()


def test_a_pod_that_does_not_run_has_no_caller(server: Server) -> None:
    with running(nobody, [flow(server)]) as traffic:
        assert traffic.missing() == (POD,)
        assert not until_steady(traffic, quiet=0.1, patience=0.5)
