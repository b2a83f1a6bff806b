"""The whole mesh, end to end: real Envoys, evaluators and PostgreSQL, on the real policy."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lab.mesh import status as looking
from lab.mesh.addresses import key
from lab.mesh.cleanup import stop_mesh
from lab.mesh.dial import DialError, ask
from lab.mesh.folders import Folders, published
from lab.mesh.model import Mesh, Options, running_mesh
from lab.mesh.policies import today
from lab.mesh.processes import MeshError, Recorded, identify, is_alive, read_state
from lab.mesh.start import up
from lab.mesh.trail import Trail
from lab.mesh.verify import verify
from lab.status import command as status_here
from zt.effective import effective
from zt.model import Service

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "policies"
SVID_LIFETIME = 20


def zt_mesh(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``zt mesh``."""
    program = "from lab.mesh.commands import mesh; mesh(prog_name='zt mesh')"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=100,
    )


def running(folders: Folders) -> Mesh:
    state = read_state(folders)
    assert state is not None
    return running_mesh(folders, state)


def service(mesh: Mesh, name: str) -> Service:
    return next(item for item in mesh.services if key(item) == name)


def call(mesh: Mesh, source: str, destination: str, port: int) -> str | None:
    """Call through the source's sidecar; the ID that answers, or ``None``."""
    there = service(mesh, destination)
    return ask(mesh.placement.outbound(service(mesh, source), there, port), None)


def verified(folders: Folders) -> dict[str, Any]:
    result = zt_mesh("verify", "--json", "--state", str(folders.root))
    assert result.stdout, result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    assert (result.returncode == 0) == (report["mismatches"] == 0), result.stderr
    return report


@pytest.fixture(scope="module")
def enforced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folders]:
    """The policy as it is, with certificates that live 20 s."""
    folders = Folders(tmp_path_factory.mktemp("enforced"))
    up(folders, Options(POLICIES, "full-zero-trust", SVID_LIFETIME), lambda _: None)
    yield folders
    stop_mesh(folders)


@pytest.fixture
def half_observed(tmp_path: Path) -> Iterator[Folders]:
    """Critical services observed, the others enforced."""
    folders = Folders(tmp_path / "mesh")
    up(folders, Options(POLICIES, "enforce-non-critical"), lambda _: None)
    yield folders
    stop_mesh(folders)


@pytest.fixture(scope="module")
def report(enforced: Folders) -> dict[str, Any]:
    """What ``zt mesh verify --json`` says."""
    return verified(enforced)


def test_every_call_ends_as_the_policy_says_and_is_on_record(
    enforced: Folders, report: dict[str, Any]
) -> None:
    assert report["mismatches"] == 0, report
    assert report["attempts"] == report["allowed"] + report["refused"] == report["records"]
    assert report["allowed"] > 20
    mesh = running(enforced)
    ports = sum(len(item.ports) for item in mesh.services)
    assert report["attempts"] == ports * len(mesh.services)  # all others, and the Internet


def test_every_attack_is_refused_and_on_record(report: dict[str, Any]) -> None:
    assert [item["name"] for item in report["attacks"]] == [
        "no certificate",
        "certificate of another CA",
        "another trust domain",
        "expired SVID",
        "plaintext",
        "ID that is not declared",
    ]
    for item in report["attacks"]:
        assert item["tried"] >= 17, item
        assert item["tried"] == item["refused"] == item["recorded"], item


def test_a_mesh_that_lets_too_much_through_is_found_out(enforced: Folders) -> None:
    """The real mesh, compared with a policy in which one rule is missing."""
    mesh = running(enforced)
    policy = mesh.effective.policy
    access = tuple(
        replace(item, rules=item.rules[:-1]) if item.name == "hanzo-core-policy" else item
        for item in policy.access
    )
    narrower = effective(replace(policy, access=access), today())
    trail = Trail(mesh.database)
    found = verify(replace(mesh, effective=narrower), trail)
    trail.close()
    surprises = [outcome for outcome in found.outcomes if outcome.surprise]
    (one,) = surprises
    attempt = one.attempt
    assert (attempt.source.name, attempt.destination.name, attempt.port) == (
        "chat",
        "gateway",
        4000,
    )
    assert one.surprise == "passed, and should not have"
    assert [entry.rule for entry in found.unexpected] == ["hanzo-core-policy/rule-3"]
    assert [entry.rule for entry in found.missing] == ["default"]
    assert found.mismatches == 2


def test_certificates_rotate_under_traffic_and_no_connection_fails(enforced: Folders) -> None:
    mesh, end = running(enforced), time.monotonic() + 2 * SVID_LIFETIME
    edges = [
        ("hanzo-k8s/iam", "hanzo-k8s/postgres", 5432),
        ("lux-k8s/validator", "hanzo-k8s/gateway", 4000),  # across both gateways
    ]
    versions, failed, made = set[Path](), list[object](), list[None]()

    def keep_calling(source: str, destination: str, port: int) -> None:
        wanted = service(mesh, destination).spiffe(mesh.effective.mesh)
        while time.monotonic() < end:
            try:
                answer: object = call(mesh, source, destination, port)
            except DialError as error:
                answer = error
            made.append(None)
            if answer != wanted:
                failed.append((time.time(), source, answer))
            versions.add(published(enforced.svid("hanzo-k8s/postgres")))
            time.sleep(0.02)

    threads = [threading.Thread(target=keep_calling, args=edge) for edge in edges]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(made) > 500
    assert len(versions) >= 4  # one every ten seconds


def status_of(folders: Folders) -> dict[str, Any]:
    result = zt_mesh("status", "--json", "--state", str(folders.root))
    assert result.returncode == 0, result.stderr
    status: dict[str, Any] = json.loads(result.stdout)
    return status


def test_status_tells_of_every_process_and_certificate(enforced: Folders) -> None:
    status, mesh = status_of(enforced), running(enforced)
    assert all(item["alive"] and item["memory_mib"] > 0 for item in status["processes"])
    names = {item["name"] for item in status["processes"]}
    assert {"supervisor", "postgres", "evaluator.hanzo-k8s", "sidecar.ci.deploy"} <= names
    assert {item["service"] for item in status["sidecars"]} == set(map(key, mesh.services))
    left = {item["service"]: item["seconds_left"] for item in status["sidecars"]}
    assert {name: found for name, found in left.items() if not 0 < found <= SVID_LIFETIME} == {}


def test_what_a_certificate_has_left_counts_from_when_it_is_read(
    enforced: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificates are renewed while processes are looked at."""
    look_at, pauses = looking.look_at, iter([SVID_LIFETIME / 2 + 2])

    def slow(item: Recorded) -> looking.Process:
        time.sleep(next(pauses, 0))
        return look_at(item)

    monkeypatch.setattr(looking, "look_at", slow)
    state = read_state(enforced)
    assert state is not None
    seen = looking.status(state, running(enforced))
    assert [item for item in seen.sidecars if not 0 < item.left <= SVID_LIFETIME] == []


def test_zt_status_shows_what_runs_here(
    enforced: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nothing = CliRunner().invoke(status_here, ["--json"])
    assert nothing.exit_code == 1
    assert "start one with `zt mesh up` or `zt lab up`" in nothing.output
    (tmp_path / ".zt").mkdir()
    (tmp_path / ".zt/mesh").symlink_to(enforced.root)
    found = CliRunner().invoke(status_here, ["--json"])
    assert found.exit_code == 0
    assert set(found_here := json.loads(found.output)) == {"mesh"}
    assert set(found_here["mesh"]) == set(status_of(enforced))
    assert "mesh" in CliRunner().invoke(status_here).output


def test_sidecars_agree_on_the_group_that_the_policy_puts_first(enforced: Folders) -> None:
    mesh = running(enforced)
    first, *_ = mesh.effective.mesh.algorithms.key_exchange
    assert call(mesh, "hanzo-k8s/iam", "hanzo-k8s/postgres", 5432)
    found = {item["service"]: item["tls_groups"] for item in status_of(enforced)["sidecars"]}
    assert found["hanzo-k8s/iam"][first] > 0
    assert found["hanzo-k8s/postgres"][first] > 0


def test_a_mesh_that_is_given_one_group_uses_that_one(tmp_path: Path) -> None:
    policies, folders = tmp_path / "policies", Folders(tmp_path / "mesh")
    shutil.copytree(POLICIES, policies)
    text = (policies / "mesh.yaml").read_text()
    given = re.sub(r"keyExchange: .*", "keyExchange: [X25519]", text)
    assert given != text
    (policies / "mesh.yaml").write_text(given)
    up(folders, Options(policies, "full-zero-trust"), lambda _: None)
    try:
        assert call(running(folders), "hanzo-k8s/iam", "hanzo-k8s/postgres", 5432)
        seen = [item["tls_groups"] for item in status_of(folders)["sidecars"]]
    finally:
        stop_mesh(folders)
    assert {name for groups in seen for name in groups} == {"X25519"}


def test_a_second_up_is_refused_and_harms_nothing(enforced: Folders) -> None:
    result = zt_mesh("up", "--state", str(enforced.root))
    assert result.returncode == 1
    assert "already running" in result.stderr
    assert "zt mesh down" in result.stderr
    assert call(running(enforced), "hanzo-k8s/iam", "hanzo-k8s/postgres", 5432)


def test_secrets_are_nowhere_but_in_their_owners_files(enforced: Folders) -> None:
    words = [line.split(":")[4] for line in enforced.passwords.read_text().splitlines()]
    secrets = [*words, "PRIVATE KEY"]
    state = read_state(enforced)
    assert state is not None
    for item in state.processes:
        for part in ("cmdline", "environ"):
            text = Path(f"/proc/{item.identity.pid}/{part}").read_bytes().decode(errors="replace")
            assert not any(secret in text for secret in secrets), (item.name, part)
    for file in (*enforced.logs.iterdir(), enforced.state):
        text = file.read_text(errors="replace")
        assert not any(secret in text for secret in secrets), file
    files = [path for path in enforced.root.rglob("*") if path.is_file()]
    open_to_others = [path for path in files if path.stat().st_mode & 0o077]
    assert not [
        path for path in open_to_others if "PRIVATE KEY" in path.read_text(errors="replace")
    ]


def test_a_dead_evaluator_refuses_where_enforced_and_passes_where_observed(
    half_observed: Folders,
) -> None:
    mesh = running(half_observed)
    minio = ("hanzo-k8s/cloud", "hanzo-k8s/minio", 9000)  # enforced
    postgres = ("hanzo-k8s/iam", "hanzo-k8s/postgres", 5432)  # observed
    assert call(mesh, *minio)
    assert call(mesh, *postgres)
    kill(half_observed, "evaluator.hanzo-k8s")
    for _ in range(5):
        assert call(mesh, *minio) is None
        assert call(mesh, *postgres)
    assert zt_mesh("status", "--state", str(half_observed.root)).returncode == 1

    started = zt_mesh("restart", "evaluator.hanzo-k8s", "--state", str(half_observed.root))
    assert started.returncode == 0, started.stderr
    deadline = time.monotonic() + 15
    while call(mesh, *minio) is None:
        assert time.monotonic() < deadline, "the evaluator is back, and nothing passes"
        time.sleep(0.1)
    report = verified(half_observed)
    assert report["mismatches"] == 0, report
    assert report["attempts"] == report["records"]

    kill_supervisor_and_clean_up(half_observed)


def kill(folders: Folders, name: str) -> None:
    state = read_state(folders)
    assert state is not None
    (found,) = [item for item in state.processes if item.name == name]
    os.kill(found.identity.pid, signal.SIGKILL)
    while is_alive(found.identity):
        time.sleep(0.01)


def kill_supervisor_and_clean_up(folders: Folders) -> None:
    """Nothing runs and no key is left, even though nobody was there to end the processes."""
    state = read_state(folders)
    assert state is not None
    assert state.supervisor is not None
    os.kill(state.supervisor.pid, signal.SIGKILL)
    assert any(is_alive(item.identity) for item in state.processes)
    assert zt_mesh("down", "--state", str(folders.root)).returncode == 0
    assert not any(is_alive(item.identity) for item in state.processes)
    assert {path.name for path in folders.root.iterdir()} <= {"logs", "lock"}


def test_an_unknown_step_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    result = zt_mesh("up", "--phase", "panic", "--state", str(tmp_path / "mesh"))
    assert result.returncode == 1
    assert "no step 'panic'; it has observe, enforce-non-critical" in result.stderr


def test_a_policy_with_errors_is_not_started(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "mesh.yaml").write_text("kind: Mash\n")
    with pytest.raises(MeshError, match="has errors"):
        up(Folders(tmp_path / "mesh"), Options(tmp_path / "policies"), lambda _: None)


def test_interrupting_up_leaves_nothing(tmp_path: Path) -> None:
    folders, children = Folders(tmp_path / "mesh"), list[int]()

    def interrupt(step: str) -> None:
        if "evaluators" in step:
            state = read_state(folders)
            assert state is not None
            assert state.supervisor is not None
            children.extend([state.supervisor.pid, *(p.identity.pid for p in state.processes)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        up(folders, Options(POLICIES), interrupt)
    assert len(children) >= 2
    assert not any(identify(pid) for pid in children)
