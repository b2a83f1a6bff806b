"""The application and the caller against each other, as the programs that run in pods."""

import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest

from lab.services import program
from zt.model import Port, Protocol

_PROTOCOLS = ("http", "postgres", "redis", "tcp", "grpc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the image, and nothing else of the checkout."""
    root = tmp_path_factory.mktemp("image")
    for name, content in program.sources().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    found = {}
    ends = [socket.create_server(("127.0.0.1", 0)) for _ in _PROTOCOLS]
    for protocol, end in zip(_PROTOCOLS, ends, strict=True):
        found[protocol] = end.getsockname()[1]
        end.close()
    return found


@pytest.fixture(scope="module")
def application(folder: Path, ports: dict[str, int]) -> Iterator[None]:
    listened = [Port(number, Protocol(protocol)) for protocol, number in ports.items()]
    process = subprocess.Popen(_here(program.application("iam", listened), folder), cwd="/")
    try:
        for number in ports.values():
            _wait_for(number)
        yield
    finally:
        process.terminate()
        assert process.wait(5) == 0


class Caller:
    """The dialer, as a process."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            _here(program.caller(), folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )

    def say(self, **asked: Any) -> None:  # noqa: ANN401
        assert self.process.stdin
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    def ask(self, **asked: Any) -> dict[str, Any]:  # noqa: ANN401
        self.say(**{"host": "127.0.0.1", **asked})
        return self.hear()


@pytest.fixture
def caller(folder: Path, application: None) -> Iterator[Caller]:
    del application
    found = Caller(folder)
    yield found
    found.process.communicate(timeout=10)
    assert found.process.returncode == 0


def _here(command: list[str], folder: Path) -> list[str]:
    """A command of the image, with this Python and that folder."""
    here = {program.FOLDER: str(folder), "/usr/bin/python3": sys.executable}
    for old, new in here.items():
        command = [part.replace(old, new) for part in command]
    return command


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"nobody listens on {port}")


def test_http_says_who_answers_and_whom_it_sees(caller: Caller, ports: dict[str, int]) -> None:
    said = caller.ask(id=7, port=ports["http"], host="localhost")
    assert said["id"] == 7
    assert said["ok"]
    assert said["error"] is None
    assert said["answer"] == {
        "status": 200,
        "body": {"service": "iam", "pod": socket.gethostname(), "peer": "127.0.0.1"},
    }
    assert said["peer"] == f"127.0.0.1:{ports['http']}"
    assert 0 < said["connected"] < said["seconds"] < 5


def test_a_connection_is_kept(caller: Caller, ports: dict[str, int]) -> None:
    said = caller.ask(port=ports["http"], count=20)
    assert said["ok"]
    assert len(said["each"]) == 20


def test_streams_bytes_health_and_metrics(caller: Caller, ports: dict[str, int]) -> None:
    stream = caller.ask(port=ports["http"], path="/stream?count=3&pause=0.05")
    assert stream["answer"]["body"].count('"service": "iam"') == 3
    assert stream["seconds"] > 0.1
    much = caller.ask(port=ports["http"], path="/bytes?count=300000")
    assert len(much["answer"]["body"]) == 300_000
    assert caller.ask(port=ports["http"], path="/healthz")["answer"]["body"] == "ok\n"
    metrics = caller.ask(port=ports["http"], path="/metrics")["answer"]["body"]
    assert f'app_requests_total{{port="{ports["http"]}"}}' in metrics


@pytest.mark.parametrize("protocol", ["postgres", "redis"])
def test_lines_are_answered(caller: Caller, ports: dict[str, int], protocol: str) -> None:
    said = caller.ask(port=ports[protocol], mode="line", count=3)
    assert said["ok"]
    assert said["answer"]["service"] == "iam"
    assert len(said["each"]) == 3


def test_a_server_that_speaks_first_greets_and_then_answers(
    caller: Caller, ports: dict[str, int]
) -> None:
    raw = caller.ask(port=ports["tcp"], mode="raw")
    packet = raw["answer"].encode("latin-1")
    assert int.from_bytes(packet[:3], "little") == len(packet) - 4
    assert packet[4:].startswith(b"\x0a8.4.0-iam\0")
    said = caller.ask(port=ports["tcp"], mode="line", greeted=True, count=2)
    assert said["answer"]["service"] == "iam"


def test_nobody_who_waits_for_a_question_speaks_first(
    caller: Caller, ports: dict[str, int]
) -> None:
    said = caller.ask(port=ports["postgres"], mode="raw", timeout=0.3)
    assert said["error"] == "silent"
    assert said["answer"] is None


def test_what_fails_is_told_apart(caller: Caller, ports: dict[str, int]) -> None:
    assert caller.ask(port=1)["error"] == "refused"
    assert caller.ask(port=80, host="nobody.invalid")["error"] == "name"
    assert caller.ask(port=ports["http"], mode="line")["error"] == "closed"
    assert caller.ask(port=ports["postgres"])["error"] == "wrong"
    assert caller.ask(port=ports["http"], tls={})["error"] in ("tls", "silent")
    assert caller.ask(port=ports["http"], mode="udp", timeout=0.5)["error"] == "refused"
    assert caller.ask(port=ports["http"], mode="nothing")["error"] == "asked"


def test_what_is_no_question_is_told(caller: Caller) -> None:
    assert caller.process.stdin
    caller.process.stdin.write("nonsense\n")
    caller.process.stdin.flush()
    assert caller.hear()["error"] == "asked"


def test_calls_are_made_at_once(caller: Caller, ports: dict[str, int]) -> None:
    began = time.monotonic()
    for number in range(40):
        caller.say(id=number, host="127.0.0.1", port=ports["http"], path="/stream?count=2&pause=1")
    heard = [caller.hear() for _ in range(40)]
    assert {item["id"] for item in heard if item["ok"]} == set(range(40))
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("as_text", [False, True])
def test_tls_with_what_is_given(caller: Caller, tmp_path: Path, as_text: bool) -> None:  # noqa: FBT001
    server_files, client_files = _certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "bundle.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*server_files)
    context.set_alpn_protocols(["zt"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        names = ("certificate", "key", "authorities")
        files = dict(zip(names, (*client_files, tmp_path / "bundle.pem"), strict=True))
        given = {
            f"{name}Pem" if as_text else name: path.read_text() if as_text else str(path)
            for name, path in files.items()
        }
        tls = {**given, "alpn": ["zt"], "serverName": "a.b"}
        caller.say(mode="raw", host="127.0.0.1", port=port, tls=tls, send="x")
        with context.wrap_socket(listener.accept()[0], server_side=True) as secured:
            assert secured.recv(1) == b"x"
            assert secured.selected_alpn_protocol() == "zt"
            secured.sendall(b"welcome")
        said = caller.hear()
    assert said["answer"] == "welcome"
    assert said["certificate"] == ["spiffe://hanzo.ai/hanzo-k8s/hanzo/iam"]


def test_tls_may_be_an_old_one(caller: Caller, tmp_path: Path) -> None:
    server_files, _ = _certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(*server_files)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        caller.say(mode="raw", host="127.0.0.1", port=port, tls={"version": "1.2"})
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(listener.accept()[0], server_side=True)
        assert caller.hear()["error"] == "tls"


def _certificates(folder: Path) -> tuple[tuple[Path, Path], tuple[Path, Path]]:
    from lab.mesh.authority import BUNDLE, KEY, SVID, authority, issue, svid_files  # noqa: PLC0415

    now = datetime.now(UTC)
    root = authority("hanzo.ai", now, 3600)
    found = []
    for name in ("iam", "chat"):
        files = svid_files(issue(root, f"spiffe://hanzo.ai/hanzo-k8s/hanzo/{name}", now, 60), root)
        for file, content in files.items():
            (folder / f"{name}-{file}").write_bytes(content)
        found.append((folder / f"{name}-{SVID}", folder / f"{name}-{KEY}"))
    shutil.copy(folder / f"iam-{BUNDLE}", folder / "bundle.pem")
    return found[0], found[1]


def test_steady_traffic_tells_failures_and_recoveries(caller: Caller) -> None:
    with _Answering() as answering:
        caller.say(
            id="s",
            mode="steady",
            speaks="line",
            host="127.0.0.1",
            port=answering.port,
            interval=0.05,
        )
        assert {caller.hear()["side"] for _ in range(2)} == {"new", "kept"}
        answering.stop()
        _hear_of_both(caller, "failed")
        answering.start()
        _hear_of_both(caller, "well")
        caller.say(stop="s")
        while (last := caller.hear())["event"] != "end":
            pass
    assert last["id"] == "s"
    assert last["kept"]["opened"] == 2
    for side in ("new", "kept"):
        assert 0 < last[side]["failed"] < last[side]["tried"]
        assert 0 < last[side]["p50"] <= last[side]["p99"] <= last[side]["p100"]


def _hear_of_both(caller: Caller, event: str) -> None:
    """Hear until both sides have had it."""
    missing = {"new", "kept"}
    while missing:
        heard = caller.hear()
        assert abs(heard["at"] - time.time()) < 5
        if heard["event"] == event:
            missing.discard(heard["side"])


class _Answering:
    """A server of lines that goes away and comes back at the same port."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as end:
                self.port = end.getsockname()[1]
        command = [sys.executable, "-m", "lab.services.application", "iam"]
        self._process = subprocess.Popen([*command, f"{self.port}:redis"])
        _wait_for(self.port)

    def stop(self) -> None:
        assert self._process
        self._process.terminate()
        self._process.wait(5)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def test_steady_traffic_ends_after_its_seconds(caller: Caller, ports: dict[str, int]) -> None:
    caller.say(
        id=1, mode="steady", host="127.0.0.1", port=ports["http"], interval=0.02, seconds=0.5
    )
    heard = [caller.hear() for _ in range(3)]
    assert [item["event"] for item in heard] == ["well", "well", "end"]
    assert heard[-1]["new"]["failed"] == heard[-1]["kept"]["failed"] == 0
    assert heard[-1]["kept"]["opened"] == 1
    assert heard[-1]["new"]["tried"] > 5


def test_steady_traffic_tells_its_sums_meanwhile(caller: Caller, ports: dict[str, int]) -> None:
    traffic = {"mode": "steady", "host": "127.0.0.1", "port": ports["http"], "interval": 0.02}
    caller.say(id=1, **traffic, seconds=0.7, sums=0.2)
    heard = [caller.hear() for _ in range(5)]
    sums = [item["new"]["tried"] for item in heard if item["event"] == "sums"]
    assert len(sums) >= 2
    assert 0 < sums[0] < sums[1]


def test_a_job_ends_once_it_is_answered(
    folder: Path, application: None, ports: dict[str, int]
) -> None:
    del application
    command = _here(program.job("127.0.0.1", ports["postgres"]), folder)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, cwd="/")
    assert json.loads(ended.stdout)["answer"]["service"] == "iam"
