import base64
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from engine.audit import checkpoint
from engine.audit.checkpoint import Checkpoint, CheckpointError, Keeper

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key()
CHECKPOINT = Checkpoint(42, bytes(range(32)))
NOTE = checkpoint.sign(CHECKPOINT, KEY)

CHECKPOINTS = st.builds(
    Checkpoint, st.integers(1, (1 << 63) - 1), st.binary(min_size=32, max_size=32)
)


@given(CHECKPOINTS)
def test_what_is_signed_is_verified(signed: Checkpoint) -> None:
    assert checkpoint.verify(checkpoint.sign(signed, KEY), PUBLIC) == signed


def test_the_form_is_that_of_a_signed_note() -> None:
    """C2SP: text, an empty line, and a line of a dash, a name, and key hash and signature."""
    text, signature = NOTE.split("\n\n")
    assert text == "zt-audit\n42\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    dash, name, encoded = signature.removesuffix("\n").split(" ")
    assert (dash, name) == ("\u2014", "zt-audit")
    decoded = base64.b64decode(encoded)
    PUBLIC.verify(decoded[4:], f"{text}\n".encode())


@given(position=st.integers(0, len(NOTE) - 1), character=st.sampled_from("0A=\n \u2014x"))
def test_whatever_is_changed_is_noticed(position: int, character: str) -> None:
    changed = NOTE[:position] + character + NOTE[position + 1 :]
    if changed != NOTE:
        with pytest.raises(CheckpointError):
            checkpoint.verify(changed, PUBLIC)


@given(st.text())
def test_other_text_is_no_checkpoint(text: str) -> None:
    with pytest.raises(CheckpointError):
        checkpoint.verify(text, PUBLIC)


def test_a_checkpoint_of_another_key_is_none() -> None:
    other = Ed25519PrivateKey.generate().public_key()
    with pytest.raises(CheckpointError, match="another key"):
        checkpoint.verify(NOTE, other)


def test_checkpoints_are_files_that_are_read_in_order(tmp_path: Path) -> None:
    written = [Checkpoint(number, bytes([number] * 32)) for number in (9, 10, 200)]
    for one in written:
        checkpoint.write(tmp_path, one, KEY)
    assert list(checkpoint.read(tmp_path, PUBLIC)) == written
    latest = (tmp_path / "latest").read_text(encoding="utf-8")
    assert checkpoint.verify(latest, PUBLIC) == written[-1]
    assert len(list(tmp_path.iterdir())) == 4


def test_a_checkpoint_by_another_name_is_refused(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, CHECKPOINT, KEY)
    path = tmp_path / f"{42:020}.checkpoint"
    path.rename(tmp_path / f"{43:020}.checkpoint")
    with pytest.raises(CheckpointError, match=r"43.checkpoint is the checkpoint of batch 42"):
        list(checkpoint.read(tmp_path, PUBLIC))


def test_keys_are_read_from_files(tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    private.write_bytes(private_pem(KEY))
    public.write_bytes(PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    signed = checkpoint.sign(CHECKPOINT, checkpoint.read_private_key(private))
    assert checkpoint.verify(signed, checkpoint.read_public_key(public)) == CHECKPOINT


@pytest.mark.parametrize("read", [checkpoint.read_private_key, checkpoint.read_public_key])
def test_what_is_no_key_is_told(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(CheckpointError, match=r"key\.pem is not a"):
        read(path)
    path.write_bytes(b"no key")
    with pytest.raises(CheckpointError, match=r"key\.pem is not a"):
        read(path)


def test_a_key_of_another_kind_is_told(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    other = generate_private_key(SECP256R1())
    path.write_bytes(private_pem(other))
    with pytest.raises(CheckpointError, match="Ed25519"):
        checkpoint.read_private_key(path)
    path.write_bytes(
        other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(CheckpointError, match="Ed25519"):
        checkpoint.read_public_key(path)


def test_a_keeper_leaves_each_checkpoint_once(tmp_path: Path) -> None:
    folder, key = tmp_path / "checkpoints", tmp_path / "key.pem"
    folder.mkdir()
    key.write_bytes(private_pem(KEY))
    keeper = Keeper(folder, key)
    keeper.keep(CHECKPOINT)
    (folder / "latest").unlink()
    keeper.keep(CHECKPOINT)
    assert not (folder / "latest").exists()
    assert list(checkpoint.read(folder, PUBLIC)) == [CHECKPOINT]


def test_a_keeper_without_a_key_says_so_and_tries_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = tmp_path / "key.pem"
    keeper = Keeper(tmp_path, key)
    keeper.keep(CHECKPOINT)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "no checkpoint" in record.message
    key.write_bytes(private_pem(KEY))
    keeper.keep(CHECKPOINT)
    assert list(checkpoint.read(tmp_path, PUBLIC)) == [CHECKPOINT]


def test_a_keeper_without_a_folder_keeps_nothing(caplog: pytest.LogCaptureFixture) -> None:
    Keeper(None, None).keep(CHECKPOINT)
    assert not caplog.records


def private_pem(key: object) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # type: ignore[attr-defined,no-any-return] # keys of two kinds
