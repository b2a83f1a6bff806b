"""``zt keys`` tells ages and public keys, never a key."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.keys import KeyStore, open_store
from gateway.keys.commands import keys, note
from gateway.keys.rights import NAMES, policy


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return open_store(f"file://{tmp_path}", "zt-wireguard", None)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(keys, arguments)


def status(folder: Path, *paths: str) -> Result:
    return run("status", *paths, f"--address=file://{folder}", "--json")


def stored(store: KeyStore, path: str, days: float) -> None:
    store.write(path, {"book": "very secret"})
    store.describe(
        path, {"publicKey": f"{path}-public", "created": str(time.time() - days * 86400)}
    )


def test_a_young_key_is_well(store: KeyStore, tmp_path: Path) -> None:
    stored(store, "hanzo-k8s", 3)
    done = status(tmp_path, "hanzo-k8s")
    (found,) = json.loads(done.stdout)
    assert done.exit_code == 0
    assert (found["version"], found["public_key"], found["note"]) == (1, "hanzo-k8s-public", "")
    assert found["age"] == pytest.approx(3, abs=0.01)
    assert "very secret" not in done.output


@pytest.mark.parametrize(
    ("days", "code", "said"), [(76, 0, "soon: 14 of 90"), (86, 1, "now: 4 of 90")]
)
def test_an_old_key_is_to_be_rotated(
    store: KeyStore, tmp_path: Path, days: float, code: int, said: str
) -> None:
    stored(store, "lux-k8s", days)
    done = status(tmp_path, "lux-k8s")
    assert said in json.loads(done.stdout)[0]["note"]
    assert done.exit_code == code


def test_where_there_is_no_key_it_is_said(tmp_path: Path) -> None:
    done = status(tmp_path, "hanzo-k8s")
    assert done.exit_code == 1
    assert json.loads(done.stdout)[0]["note"] == "there is no key"


def test_people_read_a_line_for_each(store: KeyStore, tmp_path: Path) -> None:
    stored(store, "hanzo-k8s", 1)
    stored(store, "lux-k8s", 80)
    done = run("status", "hanzo-k8s", "lux-k8s", f"--address=file://{tmp_path}")
    one, other = done.stdout.splitlines()
    assert one == "hanzo-k8s: version 1, 1.0 days old, 0 of 1 disabled, public key hanzo-k8s-public"
    assert other.endswith("; rotate it soon: 10 of 90 days are left")


def test_warnings_begin_at_75_and_85_days() -> None:
    assert [note(age).partition(":")[0] for age in (75, 75.1, 85, 85.1)] == [
        "",
        "rotate it soon",
        "rotate it soon",
        "rotate it now",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_rights_are_of_one_cluster_and_none_is_to_destroy(name: str) -> None:
    text = policy(name, "lux-k8s")
    assert "CLUSTER" not in "".join(line for line in text.splitlines() if line[0] != "#")
    assert "destroy" not in "".join(line for line in text.splitlines() if line[0] != "#")
    assert '"delete"' not in text
    assert "sudo" not in text


def test_a_policy_of_a_cluster_needs_one() -> None:
    done = run("policy", "zt-wireguard")
    assert done.exit_code == 2
    assert "say which" in done.output
    done = run("policy", "zt-wireguard", "--cluster", "lux-k8s")
    assert 'path "zt-wireguard/data/lux-k8s"' in done.output
