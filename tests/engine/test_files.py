"""What is replaced whole."""

import threading
from pathlib import Path

import pytest

from engine.files import link_whole, write_whole


def test_a_reader_finds_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [letter * 100_000 for letter in (b"a", b"b")]
    write_whole(path, contents[0])
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            for content in contents:
                write_whole(path, content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(path.read_bytes() in contents for _ in range(300))
    finally:
        ended.set()
        writer.join()


def test_nobody_else_may_ever_read_what_is_private(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"public")
    draft = tmp_path / ".key.new"
    draft.write_bytes(b"left behind, and open to all")
    draft.chmod(0o666)
    write_whole(path, b"secret", mode=0o600)
    assert path.read_bytes() == b"secret"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    (tmp_path / ".file.new").mkdir()
    with pytest.raises(OSError, match=r"directory|permitted"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_link_leads_somewhere_at_every_moment(tmp_path: Path) -> None:
    link = tmp_path / "current"
    for target in ("one", "two", "one"):
        (tmp_path / target).mkdir(exist_ok=True)
        link_whole(link, target)
        assert link.readlink() == Path(target)
