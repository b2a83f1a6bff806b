"""Gateways in network namespaces on one bridge, each with the real program and wireguard-go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from gateway.tunnel.control import tell
from gateway.tunnel.errors import TunnelError
from lab.cluster.network import entered
from lab.mesh.authority import Authority, authority, issue, svid_files
from lab.tools.build import tool
from lab.tunnel.traffic import End
from lab.verify.network import within
from tests import waiting

NAMES = ("a", "b")
DRAIN = 2.0
_HOUR = 3600
Json = dict[str, Any]


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    return done.stdout


def eventually(holds: Callable[[], object], patience: float = 30.0) -> float:
    """How long it took until it held."""
    return waiting.eventually(holds, patience, pause=0.05)


@dataclass
class Gateway:
    """A gateway, whose container is a process with processes, mounts and memory of its own."""

    name: str
    namespace: str
    folder: Path
    number: int
    root: Authority
    process: subprocess.Popen[bytes] | None = None
    host: str = ""

    def __post_init__(self) -> None:
        self.host = f"192.0.2.{self.number}"

    @property
    def own(self) -> str:
        return f"10.10.0.{self.number}"

    @property
    def spiffe(self) -> str:
        return f"spiffe://{self.root.trust_domain}/{self.name}/hanzo/wg-gateway"

    def certify(self, root: Authority | None = None, spiffe: str | None = None) -> None:
        """Give it an SVID: its own, unless another is said."""
        (self.folder / "svid").mkdir(exist_ok=True)
        given = issue(root or self.root, spiffe or self.spiffe, datetime.now(UTC), _HOUR)
        for name, content in svid_files(given, self.root).items():
            (self.folder / "svid" / name).write_bytes(content)

    @property
    def net(self) -> Path:
        return Path("/run/netns") / self.namespace

    @property
    def end(self) -> End:
        return End(self.net, self.own)

    def write_peers(self, *others: Gateway) -> None:
        peers = [
            {
                "cluster": other.name,
                "endpoint": f"{other.host}:51820",
                "allowedIPs": [f"{other.own}/32", f"10.24{other.number}.0.0/16"],
                "persistentKeepalive": 25,
                "publicKey": other.public,
                "spiffe": other.spiffe,
            }
            for other in others
        ]
        interface = {"address": f"{self.own}/24", "listenPort": 51820}
        whole = {"cluster": self.name, "interface": interface, "peers": peers}
        (self.folder / "peers.new").write_text(json.dumps(whole))
        (self.folder / "peers.new").rename(self.folder / "peers.json")

    def start(self, *more: str) -> None:
        keys = self.folder / "keys"
        keys.mkdir(exist_ok=True)
        store = ("--address", f"file://{self.folder}", "--project", "kms", "--path", self.name)
        identity = ("--svid", f"file://{self.folder}/svid")
        options = ("--peers", str(self.folder / "peers.json"), "--keys", str(keys), *store)
        times = ("--drain", str(DRAIN), *more)
        program = (sys.executable, "-m", "gateway.tunnel", *options, *identity, *times)
        memory = 'mount -t tmpfs none /run && mkdir /run/wireguard && exec "$@"'
        inside = ("sh", "-c", memory, "sh", *program)
        container = ("unshare", "--mount", "--pid", "--fork", "--kill-child", *inside)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                entered(self.namespace, container), stderr=log, env=self._environment()
            )
        eventually(lambda: (keys / "control.sock").exists() and self.answers())

    def _environment(self) -> dict[str, str]:
        """With the image's wireguard-go first on its PATH."""
        programs = self.folder / "bin"
        programs.mkdir(exist_ok=True)
        if not (programs / "wireguard-go").exists():
            (programs / "wireguard-go").symlink_to(tool("wireguard-go"))
        return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}

    def answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return bool(self.status)
        except TunnelError:
            return False

    def kill(self) -> None:
        """As a container ends: with all its processes, and the interfaces that they made."""
        assert self.process
        self.process.kill()
        self.process.wait()
        (self.folder / "keys/control.sock").unlink()

    def tell(self, command: str) -> str:
        options = ("--folder", str(self.folder / "keys"))
        return run(sys.executable, "-m", "gateway.tunnel.control", command, *options)

    def command(self, name: str) -> Json:
        """Tell it, and do not wait for what comes of it."""
        return tell(self.folder / "keys", name)

    @property
    def status(self) -> Json:
        return self.command("status")

    @property
    def public(self) -> str:
        return str(self.status["publicKey"])

    def metrics(self) -> dict[str, float]:
        def fetch() -> bytes:
            with urllib.request.urlopen("http://127.0.0.1:9586/metrics", timeout=5) as answer:
                return bytes(answer.read())

        lines = within(self.net, fetch).decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def is_up(self, other: Gateway) -> bool:
        return self.metrics().get(f'zt_wireguard_peer_up{{cluster="{other.name}"}}') == 1

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@dataclass
class Site:
    gateways: list[Gateway]
    lan: str

    def __iter__(self) -> Iterator[Gateway]:
        return iter(self.gateways)

    def join(self) -> None:
        """Have the stack of each tell it of the others."""
        for one in self:
            one.write_peers(*(other for other in self if other is not one))
        for one in self:
            for other in self:
                if one is not other:
                    eventually(partial(one.is_up, other))


@contextmanager
def site(folder: Path, names: tuple[str, ...] = NAMES) -> Iterator[Site]:
    """Gateways that know nobody yet."""
    prefix = f"zt-{uuid.uuid4().hex[:6]}-"
    built = Site([], f"{prefix}lan")
    root = authority("hanzo.ai", datetime.now(UTC), _HOUR)
    try:
        _add(built.lan)
        run("ip", "-n", built.lan, "link", "add", "lan", "type", "bridge")
        run("ip", "-n", built.lan, "link", "set", "lan", "up")
        for number, name in enumerate(names, 1):
            one = Gateway(name, f"{prefix}{name}", folder / name, number, root)
            one.folder.mkdir()
            one.certify()
            built.gateways.append(one)
            _add(one.namespace)
            _join(built.lan, one)
            one.write_peers()
            one.start()
        yield built
    finally:
        for one in built:
            if one.process and one.process.poll() is None:
                one.process.kill()
                one.process.wait()
        for name in (built.lan, *(one.namespace for one in built)):
            run("ip", "netns", "delete", name)


def _add(name: str) -> None:
    run("ip", "netns", "add", name)
    run("ip", "-n", name, "link", "set", "lo", "up")


def _join(lan: str, one: Gateway) -> None:
    ends = ("type", "veth", "peer", "name", "eth0", "netns", one.namespace)
    run("ip", "-n", lan, "link", "add", f"leg-{one.name}", *ends)
    run("ip", "-n", lan, "link", "set", f"leg-{one.name}", "master", "lan", "up")
    move(one, one.host)


def move(one: Gateway, host: str) -> None:
    """Give a gateway another address on the bridge."""
    run("ip", "-n", one.namespace, "address", "flush", "dev", "eth0")
    run("ip", "-n", one.namespace, "address", "add", f"{host}/24", "dev", "eth0")
    run("ip", "-n", one.namespace, "link", "set", "eth0", "up")
    run("ip", "-n", one.namespace, "route", "replace", "default", "via", "192.0.2.254")
