from pathlib import Path

import grpc
import pytest

from engine.tls import SvidError, SvidFiles
from tests.engine.samples import DB, ENGINE, Authority, Desk
from tests.engine.sidecar import ALLOWED, check, evaluator, question

pytestmark = pytest.mark.anyio


async def test_a_rotated_svid_is_used_from_the_next_handshake_on(
    desk: Desk, authority: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "svid"
    authority.write(folder, ENGINE)
    async with evaluator(desk, folder) as target:
        before = await check(target, question(), authority=authority, spiffe=DB)
        renewed = Authority()
        renewed.write(folder, ENGINE)
        after = await check(target, question(), authority=renewed, spiffe=DB)
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await check(target, question(), authority=authority, spiffe=DB)
    assert before.status.code == after.status.code == ALLOWED


async def test_half_of_a_rotation_changes_nothing(
    desk: Desk, authority: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "svid"
    authority.write(folder, ENGINE)
    async with evaluator(desk, folder) as target:
        (folder / "svid.pem").write_bytes(authority.issue(ENGINE)[1])
        assert (await check(target, question(), authority=authority, spiffe=DB)).HasField("status")
        (folder / "svid_key.pem").unlink()
        assert (await check(target, question(), authority=authority, spiffe=DB)).HasField("status")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("svid.pem", None, "svid.pem cannot be read: No such file or directory"),
        ("bundle.pem", None, "bundle.pem cannot be read: No such file or directory"),
        ("svid.pem", b"not PEM", "holds no SVID in PEM"),
        ("bundle.pem", b"", "holds no SVID in PEM"),
        ("svid_key.pem", "another", "is not the key of svid.pem"),
    ],
)
def test_an_svid_that_cannot_be_used_is_told(
    authority: Authority, tmp_path: Path, name: str, content: bytes | str | None, sentence: str
) -> None:
    authority.write(tmp_path, ENGINE)
    if content is None:
        (tmp_path / name).unlink()
    else:
        key, _ = authority.issue(ENGINE)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else key)
    with pytest.raises(SvidError, match=sentence):
        SvidFiles(tmp_path)
