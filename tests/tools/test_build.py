"""Programs are found under their versions, built in part by nobody, and missed in a sentence."""

import re
from pathlib import Path

import pytest

from lab.tools import build
from lab.tools.__main__ import main
from lab.tools.build import PROGRAMS, Program, ToolError, tool


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "cache/hanzo-zt/tools"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def fake_go(cache: Path, text: str) -> None:
    program(cache.parents[2] / "bin/nice", f"PATH=/usr/bin:/bin\nfor last; do :; done\n{text}")
    program(cache.parents[2] / "bin/go", "exit 9")


def test_what_is_built_is_found_by_its_version(cache: Path) -> None:
    expected = program(cache / "opa-v1.22.2", "")
    assert tool("opa") == expected


def test_a_program_is_built_once(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fake_go(cache, 'while [ "$1" != -o ]; do shift; done; echo "$last" > "$2"; chmod +x "$2"')
    path = tool("opa")
    assert path.read_text() == "github.com/open-policy-agent/opa\n"
    assert "building opa-v1.22.2" in capfd.readouterr().err
    assert list(cache.iterdir()) == [path]
    assert tool("opa") == path
    assert capfd.readouterr().err == ""


def test_a_build_that_fails_leaves_nothing(cache: Path) -> None:
    fake_go(cache, "echo no such module >&2; exit 1")
    with pytest.raises(ToolError, match="opa cannot be built: no such module"):
        tool("opa")
    assert list(cache.iterdir()) == []


def test_without_go_the_path_is_looked_at(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ToolError, match="opa is not on the PATH, and there is no Go"):
        tool("opa")
    expected = program(cache.parents[2] / "bin/opa", "")
    assert tool("opa") == expected
    assert "another version" in capfd.readouterr().err


def test_our_own_programs_change_name_with_their_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_HERE", tmp_path)
    (tmp_path / "load").mkdir()
    (tmp_path / "go.mod").write_text("module x\n")
    source = tmp_path / "load/main.go"
    source.write_text("package main\n")
    first = build._version(PROGRAMS["load"])
    source.write_text("package main // changed\n")
    assert build._version(PROGRAMS["load"]) != first


def test_a_package_that_nothing_pins() -> None:
    with pytest.raises(ToolError, match=r"pins no version of example\.com/x"):
        build._version(Program(".", "example.com/x"))


_THEIRS = [name for name, program in PROGRAMS.items() if not program.package.startswith("./")]


@pytest.mark.parametrize("name", _THEIRS)
def test_what_is_not_ours_is_pinned_as_a_tool_of_its_module(name: str) -> None:
    program = PROGRAMS[name]
    module = (build._HERE / program.module / "go.mod").read_text()
    assert re.search(rf"^(tool |\t){re.escape(program.package)}$", module, re.MULTILINE)
    # Where nobody tags versions as Go wants them, a commit is one.
    assert re.fullmatch(r"v\d+\.\d+\.\d+(-\d{14}-[0-9a-f]{12})?", build._version(program))


def test_stamps_are_those_of_the_version() -> None:
    arguments = build._arguments(PROGRAMS["kube-apiserver"], "v1.35.4")
    (linking,) = (item for item in arguments if item.startswith("-ldflags="))
    assert "-X k8s.io/component-base/version.gitVersion=v1.35.4 " in linking
    assert "version.gitMajor=1 " in linking
    assert linking.endswith("version.gitMinor=35")


def test_the_staging_modules_of_kubernetes_follow_it() -> None:
    module = (build._HERE / "kubernetes/go.mod").read_text()
    version = build._version(PROGRAMS["kube-apiserver"]).replace("v1.", "v0.")
    replaced = re.findall(r"^\t(k8s\.io/\S+) => (\S+) (\S+)$", module, re.MULTILINE)
    assert len(replaced) > 25
    assert {(name == by, pinned) for name, by, pinned in replaced} == {(True, version)}


def test_programs_are_built_beforehand(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = program(cache / "opa-v1.22.2", "")
    assert main(["opa"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert main(["pulumi"]) == 1
    assert "pulumi is not on the PATH" in capsys.readouterr().err
    assert main(["oops"]) == 2
    assert "no program oops: choose from opa" in capsys.readouterr().err
