"""``zt lab scan`` says where, exits with 1, and never repeats a secret."""

import base64
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from lab.scan.commands import scan

KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/gateway.log").write_text(f"started\nread PrivateKey = {KEY}\n")
    (tmp_path / "peers.json").write_text(json.dumps({"publicKey": KEY}))
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def test_it_says_where_a_secret_is_and_not_what(folder: Path) -> None:
    result = CliRunner().invoke(scan, [str(folder)])

    assert result.exit_code == 1
    assert f"{folder}/logs/gateway.log:2:6: WireGuard private key" in result.output
    assert "1 secrets in 2 files" not in result.output
    assert "1 secret in 2 files" in result.output
    assert KEY not in result.output


def test_nothing_found_is_good(folder: Path) -> None:
    result = CliRunner().invoke(scan, [str(folder / "peers.json")])

    assert result.exit_code == 0
    assert result.output == "no secrets in 1 file\n"


def test_standard_input_is_a_carrier() -> None:
    result = CliRunner().invoke(scan, ["-"], input=f"PrivateKey = {KEY}\n")

    assert result.exit_code == 1
    assert result.output.startswith("standard input:1:1: ")


def test_a_planted_key_is_found_by_its_bytes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(bytes(range(32)))
    paths = [str(folder / "peers.json"), "--planted", str(tmp_path / "key"), "--json"]
    result = CliRunner().invoke(scan, paths)
    (found,) = json.loads(result.output)["found"]

    assert result.exit_code == 1
    assert found["kind"] == "planted key"
    assert KEY not in result.output


def test_a_path_that_is_not_there_is_misuse(tmp_path: Path) -> None:
    assert CliRunner().invoke(scan, [str(tmp_path / "none")]).exit_code == 2
