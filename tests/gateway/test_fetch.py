"""A key goes from the store into memory, and into nothing else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.fetch import keep, main, parser
from gateway.keys import KeyStore, open_store
from gateway.memory import NotInMemoryError, check_memory, write_keys
from tests.waiting import EndedError

KEY = "c2VjcmV0"


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return open_store(f"file://{tmp_path}", "zt-root-ca", None)


def fetch(tmp_path: Path, into: Path, *more: str) -> int:
    where = [f"--address=file://{tmp_path}", "--project=zt-root-ca", "--path=spire/here"]
    return main([*where, f"--into={into}", *more])


def test_each_field_is_a_file_that_one_user_reads(
    store: KeyStore, tmp_path: Path, memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write("spire/here", {"tls.key": KEY, "tls.crt": "certificate"})
    assert fetch(tmp_path, memory) == 0
    assert (memory / "tls.key").read_text() == KEY
    assert {path.name for path in memory.iterdir()} == {"tls.key", "tls.crt"}
    assert {path.stat().st_mode & 0o777 for path in memory.iterdir()} == {0o400}
    said = "".join(capsys.readouterr())
    assert "tls.key" in said
    assert KEY not in said


def test_only_what_is_asked_for_is_written(store: KeyStore, tmp_path: Path, memory: Path) -> None:
    store.write("spire/here", {"tls.key": KEY, "other": "other"})
    assert fetch(tmp_path, memory, "--field=tls.key") == 0
    assert [path.name for path in memory.iterdir()] == ["tls.key"]


def test_started_again_it_writes_the_newest(store: KeyStore, tmp_path: Path, memory: Path) -> None:
    store.write("spire/here", {"tls.key": "old"})
    assert fetch(tmp_path, memory) == 0
    store.write("spire/here", {"tls.key": KEY})
    assert fetch(tmp_path, memory) == 0
    assert (memory / "tls.key").read_text() == KEY


def test_a_field_that_lacks_is_named_and_nothing_is_written(
    store: KeyStore, tmp_path: Path, memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write("spire/here", {"tls.key": KEY})
    assert fetch(tmp_path, memory, "--field=tls.key", "--field=bundle.crt") == 1
    assert "zt-root-ca/spire/here has no bundle.crt" in capsys.readouterr().err
    assert list(memory.iterdir()) == []


def test_what_may_lack_is_no_error(tmp_path: Path, memory: Path) -> None:
    assert fetch(tmp_path, memory) == 1
    assert fetch(tmp_path, memory, "--optional") == 0
    assert list(memory.iterdir()) == []


def test_a_folder_on_a_disk_gets_no_key(
    store: KeyStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write("spire/here", {"tls.key": KEY})
    # Never in memory, whatever this machine has below /tmp.
    disk = Path(tempfile.mkdtemp(dir=Path(__file__).parent))
    try:
        assert fetch(tmp_path, disk) == 1
        assert "not in memory" in capsys.readouterr().err
        assert list(disk.iterdir()) == []
        with pytest.raises(NotInMemoryError):
            check_memory(disk)
        with pytest.raises(NotInMemoryError):
            write_keys(disk, {"key": KEY})
    finally:
        disk.rmdir()


def test_a_link_is_not_followed(tmp_path: Path, memory: Path) -> None:
    (memory / "target").write_text("untouched")
    (memory / "tls.key").symlink_to("target")
    write_keys(memory, {"tls.key": KEY})
    assert (memory / "target").read_text() == "untouched"
    assert not (memory / "tls.key").is_symlink()
    (tmp_path / "link").symlink_to(memory)
    with pytest.raises(OSError, match="link"):
        write_keys(tmp_path / "link", {"tls.key": KEY})


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "new\nline"])
def test_a_name_that_is_no_file_is_refused(memory: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name of a file"):
        write_keys(memory, {"good": KEY, name: KEY})
    assert list(memory.iterdir()) == []


def test_what_is_new_is_written_and_a_failure_is_tried_again(
    store: KeyStore, tmp_path: Path, memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write("spire/here", {"tls.key": "old"})
    read: list[str] = []
    written: list[int] = []

    def pause(_: float) -> None:
        """What happens in the store meanwhile."""
        match len(read):
            case 2:
                store.write("spire/here", {"tls.key": KEY})
            case 3 | 4:
                store.disable("spire/here", 2)
            case 6:
                raise EndedError
        file = memory / "tls.key"
        read.append(file.read_text() if file.exists() else "")
        written.append(file.stat().st_ino if file.exists() else 0)

    given = parser().parse_args(
        [
            *(f"--address=file://{tmp_path}", "--project=zt-root-ca", "--path=spire/here"),
            *(f"--into={memory}", "--every=1"),
        ]
    )
    with pytest.raises(EndedError):
        keep(given, pause)
    assert read == ["", "old", "old", KEY, KEY, KEY]
    # What is the same is not written again, nor is what can't be had.
    assert written[1] == written[2] != written[3] == written[5]
    assert capsys.readouterr().err.count("fetch: ") == 1
