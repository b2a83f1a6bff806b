"""The parts of a tunnel that need no network of their own."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.keys.directory import Directory
from gateway.tunnel import commands, control, talk, wg
from gateway.tunnel.book import Book, Key, Step
from gateway.tunnel.errors import TunnelError
from gateway.tunnel.interface import is_strict
from gateway.tunnel.known import keys_of
from gateway.tunnel.metrics import PeerSample, Sample, render
from gateway.tunnel.peers import read_tunnel, resolved
from gateway.tunnel.store import InKms, delivered
from zt.compile.wireguard import compile_wireguard
from zt.effective import effective
from zt.load import load_policy

KEY = Key("a-private-key", f"{'own':x<43}=", 1000.0)
THEIRS, NEWER = f"{'lux':x<43}=", f"{'lux2':x<43}="


def compiled() -> dict[str, Any]:
    """As the policy has it, with the keys that a stack adds."""
    policy = load_policy(Path(__file__).parents[3] / "policies")
    files = compile_wireguard(effective(policy, datetime.now(UTC).date()), "hanzo-k8s")
    found = next(file for file in files if file.path == "wireguard/peers.yaml").manifest()
    peers = [peer | {"publicKey": THEIRS} for peer in found["peers"]]
    return {**found, "peers": peers}


def test_what_the_policy_compiles_is_read(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    path.write_text(json.dumps(compiled()))
    tunnel = read_tunnel(path)
    assert (tunnel.cluster, tunnel.own, tunnel.port) == ("hanzo-k8s", "10.10.0.1", 51820)
    (peer,) = tunnel.peers
    assert (peer.cluster, peer.host, peer.port) == ("lux-k8s", "24.144.69.101", 51820)
    assert (peer.address, peer.keepalive) == ("10.10.0.2", 25)
    assert peer.allowed == ("10.10.0.2/32", "10.244.0.0/16")
    assert peer.spiffe == "spiffe://hanzo.ai/lux-k8s/lux/wg-gateway"


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"cluster": "a", "peers": [{}]}'])
def test_a_file_that_has_no_tunnel(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TunnelError, match="has no tunnel"):
        read_tunnel(path)


def test_what_a_peer_told_counts_until_the_stack_has_another_key(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    path.write_text(json.dumps(compiled()))
    tunnel = read_tunnel(path)
    book = Book(keys={0: KEY})
    assert keys_of(book, tunnel) == {"lux-k8s": {0: THEIRS, 1: THEIRS}}
    told = replace(book, peers={"lux-k8s": {1: NEWER}}, stack={"lux-k8s": THEIRS})
    assert keys_of(told, tunnel) == {"lux-k8s": {1: NEWER}}
    # That one began anew, and is on any lane.
    anew = replace(told, stack={"lux-k8s": NEWER})
    assert keys_of(anew, tunnel) == {"lux-k8s": {0: THEIRS, 1: THEIRS}}


def test_a_stack_that_says_what_the_peer_told_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    path.write_text(json.dumps(compiled()))
    told = {"lux-k8s": {0: NEWER, 1: THEIRS}}
    book = Book(keys={1: KEY}, lane=1, peers=told, stack={"lux-k8s": NEWER})
    assert keys_of(book, read_tunnel(path)) == told


def test_an_endpoint_is_an_address_and_a_port() -> None:
    assert resolved("192.0.2.1", 51820) == "192.0.2.1:51820"
    assert resolved("2001:db8::1", 51821) == "[2001:db8::1]:51821"
    assert resolved("nobody.invalid", 1) is None


@pytest.mark.parametrize(
    ("values", "strict"),
    [
        ({}, False),
        ({"all": 1, "default": 0}, True),
        ({"all": 0, "default": 0, "wg0": 1}, True),
        ({"all": 1, "wg0": 2}, False),
        ({"all": 0, "default": 1, "wg0": 2}, True),
    ],
)
def test_a_kernel_that_takes_packets_from_one_way_alone(
    *,
    values: dict[str, int],
    strict: bool,
    tmp_path: Path,
) -> None:
    for name, value in values.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "rp_filter").write_text(f"{value}\n")
    assert is_strict(tmp_path) is strict


# --- KMS ------------------------------------------------------------------------------------------


def test_a_book_is_kept_whole_and_what_was_before_is_let_go(tmp_path: Path) -> None:
    keys = Directory(tmp_path)
    store = InKms(keys, "hanzo-k8s")
    assert store.load() is None
    book = Book(keys={0: KEY})
    for step in (None, Step.STAGED, None):
        store.save(replace(book, step=step, keys={0: KEY, 1: KEY} if step else {0: KEY}))
    assert store.load() == book
    assert keys.description("hanzo-k8s") == {"publicKey": KEY.public, "created": "1000"}
    store.forget()
    assert [version.enabled for version in keys.versions("hanzo-k8s")] == [False, False, True]
    store.forget()
    assert store.load() == book


def test_a_secret_without_a_book(tmp_path: Path) -> None:
    Directory(tmp_path).write("hanzo-k8s", {"private": "key"})
    with pytest.raises(TunnelError, match="no book") as caught:
        InKms(Directory(tmp_path), "hanzo-k8s").load()
    assert "key" not in str(caught.value).removeprefix("what KMS has is no book of a tunnel")


def test_what_the_init_step_left_is_taken_away(tmp_path: Path) -> None:
    assert delivered(tmp_path) is None
    book = Book(keys={0: KEY})
    (tmp_path / "book").write_text(book.text())
    (tmp_path / "publicKey").write_text(KEY.public)
    assert delivered(tmp_path) == book
    assert [*tmp_path.iterdir()] == []


def test_a_key_file_is_there_for_a_moment_and_for_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run(*command: str) -> str:
        path = Path(command[-1])
        seen.append((command[:-1], path.read_text(), path.stat().st_mode & 0o777))
        raise TunnelError("refused")

    monkeypatch.setattr(wg, "run", run)
    with pytest.raises(TunnelError):
        wg.Maker(tmp_path).set_key("wg0", KEY)
    assert seen == [(("wg", "set", "wg0", "private-key"), KEY.private, 0o400)]
    assert [*tmp_path.iterdir()] == []


# --- What it tells --------------------------------------------------------------------------------


def test_an_offer_is_asked_for_and_what_is_none_is_an_error() -> None:
    offer = Book(keys={0: KEY}).offer({}).text()
    given = iter(
        [talk.Reply(200, "application/json", offer), talk.Reply(503, "text/plain", "not yet")]
    )
    server = talk.serve("127.0.0.1", 0, {talk.PATH: lambda _: next(given)})
    port = int(server.server_address[1])
    try:
        assert talk.ask("127.0.0.1", "127.0.0.1", "1", port) == talk.Answer(offer, None)
        with pytest.raises(TunnelError, match="answers 503"):
            talk.ask("127.0.0.1", "127.0.0.1", "1", port)
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(TunnelError, match="does not answer"):
        talk.ask("127.0.0.1", "127.0.0.1", "1", port)


def test_metrics_are_prometheus_text() -> None:
    peers = (PeerSample("lux-k8s", True, 10, 20, None, 3), PeerSample("b", False, 0, 0, 12.5))  # noqa: FBT003
    text = render(Sample(peers, key_age=75 * 86400, step=Step.DRAINING, store_failing=True))
    lines = text.splitlines()
    for line in (
        "# TYPE zt_wireguard_peer_up gauge",
        'zt_wireguard_peer_up{cluster="lux-k8s"} 1',
        'zt_wireguard_peer_up{cluster="b"} 0',
        'zt_wireguard_received_bytes_total{cluster="lux-k8s"} 10',
        'zt_wireguard_handshake_age_seconds{cluster="b"} 12.5',
        "zt_wireguard_key_age_seconds 6480000",
        'zt_wireguard_unattested_total{cluster="lux-k8s"} 3',
        'zt_wireguard_rotation{step="draining"} 1',
        'zt_wireguard_rotation{step="staged"} 0',
        "zt_wireguard_store_failing 1",
    ):
        assert line in lines
    assert 'zt_wireguard_handshake_age_seconds{cluster="lux-k8s"}' not in text


# --- What it is told ------------------------------------------------------------------------------


def test_a_tunnel_is_told_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = iter(["staged", "draining", None])

    def status() -> dict[str, object]:
        step = next(steps) if begun else None
        return {"step": step, "publicKey": "new" if begun and step is None else "old"}

    begun: list[int] = []

    def rotate() -> dict[str, object]:
        if begun:
            raise TunnelError("a rotation is under way already")
        begun.append(1)
        return {}

    control.listen(tmp_path, {"status": status, "rotate": rotate})
    assert (tmp_path / control.SOCKET).stat().st_mode & 0o777 == 0o600
    assert control.main(["rotate", "--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == ["staged", "draining", "done new"]
    for command, complaint in (("rotate", "under way"), ("call-off", "no command")):
        with pytest.raises(TunnelError, match=complaint):
            control.tell(tmp_path, command)


def test_nobody_listens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert control.main(["status", "--folder", str(tmp_path)]) == 1
    assert "no tunnel answers" in capsys.readouterr().err


def test_the_command_runs_the_program_in_the_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, len(ran) - 1)

    monkeypatch.setattr(subprocess, "run", run)
    options = ["--context", "lux-k8s", "--namespace", "lux"]
    assert CliRunner().invoke(commands.rotate, options).exit_code == 0
    assert CliRunner().invoke(commands.rotate, ["--call-off"]).exit_code == 1
    assert " ".join(ran[0]) == (
        "kubectl --context lux-k8s exec --namespace=lux deployment/wg-gateway "
        "--container=wireguard -- python3 -m gateway.tunnel.control rotate"
    )
    assert ran[1][-1] == "call-off"
