"""Where policies are kept: nothing is lost, and nothing is written over what was not read."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from engine.http.sources import (
    BusyError,
    FolderSource,
    ReadOnlyError,
    SourceError,
    StaleError,
    _put,
)
from tests.engine.http.serving import write_source


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    folder = write_source(tmp_path, "one")
    (folder / "inner").mkdir()
    (folder / "inner" / "two.yml").write_text("two")
    (folder / ".hidden.yaml").write_text("hidden")
    (folder / "notes.txt").write_text("none")
    return FolderSource(folder)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_files_are_read_as_they_are_loaded(source: FolderSource) -> None:
    assert source.read() == {"policy.yaml": b"one", "inner/two.yml": b"two"}


def test_a_file_alone_is_a_source_too(source: FolderSource) -> None:
    alone = FolderSource(source.path / "policy.yaml")
    assert alone.read() == {"policy.yaml": b"one"}
    alone.write("policy.yaml", b"another")
    assert source.read()["policy.yaml"] == b"another"


def test_a_file_is_exchanged_with_its_mode_and_nothing_is_left(source: FolderSource) -> None:
    path = source.path / "inner" / "two.yml"
    path.chmod(0o640)
    source.read()
    source.write("inner/two.yml", b"other")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"other", 0o640)
    assert names(path.parent) == ["two.yml"]


def test_a_link_stays_a_link(source: FolderSource, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.yaml").write_text("there")
    (source.path / "link.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    source.read()
    source.write("link.yaml", b"changed")
    assert (source.path / "link.yaml").is_symlink()
    assert (tmp_path / "elsewhere.yaml").read_bytes() == b"changed"


@pytest.mark.parametrize("touched", ["policy.yaml", "inner/two.yml", "new.yaml"])
def test_what_changed_since_it_was_read_is_not_written_over(
    source: FolderSource, touched: str
) -> None:
    source.read()
    (source.path / touched).write_text("by somebody else")
    with pytest.raises(StaleError):
        source.write("policy.yaml", b"mine")
    assert (source.path / touched).read_text() == "by somebody else"


def test_a_file_that_went_is_not_written_again(source: FolderSource) -> None:
    source.read()
    (source.path / "policy.yaml").unlink()
    with pytest.raises(StaleError):
        source.write("policy.yaml", b"mine")
    assert not (source.path / "policy.yaml").exists()


def test_one_change_waits_for_another(source: FolderSource) -> None:
    other = FolderSource(source.path)
    with source.locked():
        with pytest.raises(BusyError), other.locked(patience=0.1):
            pytest.fail("two at once")
        order: list[str] = []

        def wait() -> None:
            with FolderSource(source.path).locked():
                order.append("second")

        waiting = Thread(target=wait)
        waiting.start()
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_the_lock_goes_with_whoever_holds_it(source: FolderSource) -> None:
    program = f"import fcntl, os, time; h = os.open({str(source.path)!r}, os.O_RDONLY); "
    program += "fcntl.flock(h, fcntl.LOCK_EX); print(flush=True); time.sleep(60)"
    held = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert held.stdout is not None
    held.stdout.readline()
    with pytest.raises(BusyError), source.locked(patience=0.1):
        pytest.fail("two at once")
    held.kill()
    held.wait()
    held.stdout.close()
    with source.locked(patience=1):
        assert source.read()


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_what_fails_half_way_leaves_the_file_as_it_was(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    source.read()
    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(SourceError, match="No space left"):
        source.write("policy.yaml", b"mine")
    monkeypatch.undo()
    assert source.read() == {"policy.yaml": b"one", "inner/two.yml": b"two"}
    assert names(source.path) == [".hidden.yaml", "inner", "notes.txt", "policy.yaml"]


def test_where_nothing_can_be_written_that_is_said(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(30, "Read-only file system")

    source.read()
    monkeypatch.setattr("engine.http.sources._put", refuse)
    with pytest.raises(ReadOnlyError, match="Read-only"):
        source.write("policy.yaml", b"mine")


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError), FolderSource(tmp_path / "x" / "nowhere").locked():
        pytest.fail("there is none")


@pytest.mark.parametrize("keep", range(4))
def test_a_stop_at_any_step_leaves_the_old_file_or_the_new_one(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    """Stops as ``kill -9`` does after each of the calls that change something."""
    target = source.path / "policy.yaml"
    steps = 0

    class Stop(BaseException):
        pass

    def counted(original: object) -> object:
        def call(*arguments: object, **named: object) -> object:
            nonlocal steps
            steps += 1
            if steps > keep:
                raise Stop
            return original(*arguments, **named)  # type: ignore[operator]

        return call

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", counted(os.fsync))
        patched.setattr(Path, "replace", counted(Path.replace))
        try:
            _put(target.with_name(".policy.yaml.new"), target, b"mine")
        except Stop:
            assert keep < 3
    assert source.read()["policy.yaml"] == (b"one" if keep < 2 else b"mine")
