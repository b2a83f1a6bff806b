"""The store in a folder keeps the protocol."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gateway.keys import KeyStore, MalformedError, MissingError, open_store


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return open_store(f"file://{tmp_path}", "zt-wireguard", None)


def test_versions_count_up_and_the_newest_is_read(store: KeyStore) -> None:
    assert store.versions("here") == ()
    assert [store.write("here", {"book": text}) for text in ("one", "two")] == [1, 2]
    assert store.read("here") == {"book": "two"}
    assert store.read("here", 1) == {"book": "one"}
    assert [(item.number, item.enabled) for item in store.versions("here")] == [
        (1, True),
        (2, True),
    ]


def test_a_disabled_version_is_read_by_nobody(store: KeyStore) -> None:
    store.write("here", {"book": "one"})
    store.write("here", {"book": "two"})
    store.disable("here", 1)
    store.disable("here", 1)
    assert [item.enabled for item in store.versions("here")] == [False, True]
    with pytest.raises(MissingError, match="version 1"):
        store.read("here", 1)
    assert store.read("here") == {"book": "two"}
    assert store.write("here", {"book": "three"}) == 3


def test_a_number_is_never_given_twice(store: KeyStore) -> None:
    store.write("here", {"book": "one"})
    store.disable("here", 1)
    assert store.write("here", {"book": "two"}) == 2


def test_what_there_is_not_is_missing(store: KeyStore) -> None:
    with pytest.raises(MissingError, match="there"):
        store.read("there")
    with pytest.raises(MissingError):
        store.disable("there", 1)


def test_facts_are_read_without_the_secret(store: KeyStore) -> None:
    assert store.description("here") == {}
    store.describe("here", {"publicKey": "abc"})
    store.describe("here", {"publicKey": "def"})
    assert store.description("here") == {"publicKey": "def"}
    assert store.versions("here") == ()


def test_files_are_their_owners_alone(store: KeyStore, tmp_path: Path) -> None:
    store.write("here", {"book": "one"})
    store.describe("here", {"publicKey": "abc"})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_path_stays_in_its_project(store: KeyStore) -> None:
    with pytest.raises(MalformedError, match="leads out"):
        store.read("../zt-root-ca/root")


def test_what_is_no_mapping_of_texts_is_said_without_its_content(
    store: KeyStore, tmp_path: Path
) -> None:
    store.write("here", {"book": "one"})
    (tmp_path / "zt-wireguard/here/1").write_text('{"book": ["secret"]}')
    with pytest.raises(MalformedError) as raised:
        store.read("here")
    assert "secret" not in str(raised.value)


def test_a_reader_that_comes_at_any_time_reads_a_whole_version(store: KeyStore) -> None:
    value = {"book": "x" * 100_000}
    store.write("here", value)
    writing = threading.Thread(target=lambda: [store.write("here", value) for _ in range(100)])
    writing.start()
    while writing.is_alive():
        assert store.read("here") == value
    writing.join()
    assert len(store.versions("here")) == 101
