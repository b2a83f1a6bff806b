"""Which store an address names."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from gateway.keys import MalformedError, add_arguments, open_store, store_of
from gateway.keys.directory import Directory
from gateway.keys.vault import Vault


def test_a_url_of_a_folder_is_a_folder(tmp_path: Path) -> None:
    assert open_store(f"file://{tmp_path}", "p", None) == Directory(tmp_path / "p")


@pytest.mark.parametrize("address", ["http://kms:8200", "kms:8200", "", "ftp://kms"])
def test_keys_travel_by_https_alone(address: str) -> None:
    with pytest.raises(MalformedError, match="https alone"):
        open_store(address, "p", None)


def test_a_role_is_called_like_its_project_unless_it_is_said() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    where = ["--address=https://kms", "--project=zt-wireguard"]
    store = store_of(parser.parse_args(where))
    assert isinstance(store, Vault)
    assert (store.access.role, store.access.mount) == ("zt-wireguard", "kubernetes")
    other = store_of(parser.parse_args([*where, "--role=r", "--auth=jwt-here"]))
    assert isinstance(other, Vault)
    assert (other.access.role, other.access.mount) == ("r", "jwt-here")
