"""What steps are known by: only what can change them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.images.debian import pinned
from lab.images.dockerfile import Copy, Stage, UnreadError, stages
from lab.images.layers import Workshop
from lab.images.ours import commands
from lab.images.steps import Step, Steps, contents, done, placed


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "checkout"
    (folder / "code/__pycache__").mkdir(parents=True)
    (folder / "code/one.py").write_text("1")
    (folder / "code/__pycache__/one.pyc").write_text("compiled")
    (folder / "other.txt").write_text("text")
    monkeypatch.setattr("lab.images.steps.CHECKOUT", folder)
    return folder


def copied(tmp_path: Path, *copies: Copy) -> Steps:
    shop = Workshop(tmp_path / "shop", lambda _: None)
    below = (Step("base", tmp_path / "base"),)
    return done(shop, Stage("debian", "", list(copies)), below, {}, None)


def test_what_is_copied_lies_where_it_is_to_without_what_python_compiled(
    checkout: Path, tmp_path: Path
) -> None:
    base, code, text = copied(
        tmp_path, Copy("code/", "/opt/code/", None), Copy("other.txt", "/opt/", None)
    )
    assert base.key == "base"
    assert [str(p.relative_to(code.folder)) for p in code.folder.rglob("*") if p.is_file()] == [
        "opt/code/one.py"
    ]
    assert (text.folder / "opt/other.txt").read_text() == (checkout / "other.txt").read_text()


def test_a_changed_file_is_another_step_and_a_compiled_one_is_not(
    checkout: Path, tmp_path: Path
) -> None:
    copy = Copy("code/", "/opt/code/", None)
    (_, first) = copied(tmp_path, copy)
    (checkout / "code/__pycache__/two.pyc").touch()
    assert copied(tmp_path, copy)[1] == first
    (checkout / "code/one.py").write_text("2")
    (_, changed) = copied(tmp_path, copy)
    assert changed.key != first.key
    assert (changed.folder / "opt/code/one.py").read_text() == "2"


def test_a_moved_file_is_another_content(checkout: Path) -> None:
    before = contents(checkout / "code")
    (checkout / "code/one.py").rename(checkout / "code/uno.py")
    assert contents(checkout / "code") != before


def test_a_program_is_known_by_its_name_and_can_be_run(tmp_path: Path) -> None:
    (program := tmp_path / "tool-v1").write_text("#!/bin/sh")
    program.chmod(0o755)
    shop = Workshop(tmp_path / "shop", lambda _: None)
    step = placed(shop, program, "/opt/tool/tool")
    assert (step.folder / "opt/tool/tool").stat().st_mode & 0o777 == 0o755
    newer = program.rename(tmp_path / "tool-v2")
    assert placed(shop, newer, "/opt/tool/tool").key != step.key


def test_debian_has_what_our_dockerfiles_pin() -> None:
    packages = dict(name.split("=") for name in pinned(commands()))
    assert {"iproute2", "nftables", "python3", "wireguard-tools"} <= packages.keys()
    assert pinned(["pip install aa==1", "apt-get install bb=2:1.0-1+b1 c"]) == ("bb=2:1.0-1+b1",)


def test_an_instruction_that_is_not_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nVOLUME /data\n")
    with pytest.raises(UnreadError, match="VOLUME"):
        stages(tmp_path / "Dockerfile")
