import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from engine.envoy import fallback, http2
from engine.tls import SvidError, SvidFiles, peer_of
from tests.engine.samples import DB, ENGINE, WEB, Authority, Desk
from tests.engine.sidecar import ALLOWED, Serve, check, evaluator, question

pytestmark = pytest.mark.anyio
both = pytest.mark.parametrize("serve", [http2.serve, fallback.serve], ids=["ngh2", "grpcio"])


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@both
async def test_a_rotated_svid_is_used_from_the_next_handshake_on(
    desk: Desk, authority: Authority, tmp_path: Path, serve: Serve
) -> None:
    folder = tmp_path / "svid"
    authority.write(folder, ENGINE)
    async with evaluator(desk, folder, serve) as target:
        before = await check(target, question(), authority=authority, spiffe=DB)
        renewed = Authority()
        renewed.write(folder, ENGINE)
        after = await check(target, question(), authority=renewed, spiffe=DB)
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await check(target, question(), authority=authority, spiffe=DB)
    assert before.status.code == after.status.code == ALLOWED


@both
async def test_a_ca_that_left_the_bundle_is_trusted_by_no_handshake(
    desk: Desk, authority: Authority, tmp_path: Path, serve: Serve
) -> None:
    """Also where the client trusts our new certificate, and names the server or does not."""
    folder = tmp_path / "svid"
    authority.write(folder, ENGINE)
    async with evaluator(desk, folder, serve) as target:
        assert (await check(target, question(), authority=authority, spiffe=DB)).HasField("status")
        renewed = Authority()
        renewed.write(folder, ENGINE)
        authority.bundle = renewed.bundle
        with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
            await check(target, question(), authority=authority, spiffe=DB)
        (folder / "bundle.pem").write_bytes(renewed.bundle + Authority().bundle)
        assert (await check(target, question(), authority=renewed, spiffe=DB)).HasField("status")
    assert len(desk.outcomes) == 2


async def test_who_is_in_a_handshake_at_the_end_is_waited_for(
    desk: Desk, authority: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "svid"
    authority.write(folder, ENGINE)
    async with evaluator(desk, folder) as target:
        host, _, port = target.partition(":")
        _, client = await asyncio.open_connection(host, int(port))
        client.write(b"\x16")
        await asyncio.sleep(0.1)
        asyncio.get_running_loop().call_later(0.2, client.close)
    assert client.is_closing()


@both
async def test_half_of_a_rotation_changes_nothing(
    desk: Desk, authority: Authority, tmp_path: Path, serve: Serve
) -> None:
    folder = tmp_path / "svid"
    authority.write(folder, ENGINE)
    async with evaluator(desk, folder, serve) as target:
        (folder / "svid.pem").write_bytes(authority.issue(ENGINE)[1])
        assert (await check(target, question(), authority=authority, spiffe=DB)).HasField("status")
        (folder / "svid_key.pem").unlink()
        assert (await check(target, question(), authority=authority, spiffe=DB)).HasField("status")


# --- What a handshake comes to --------------------------------------------------------------------


def client(authority: Authority, folder: Path, *uris: str) -> ssl.SSLContext:
    """A client whose certificate has those URIs."""
    folder.mkdir()
    key, certificate = authority.issue(*uris)
    (folder / "both.pem").write_bytes(key + certificate)
    context = ssl.create_default_context(cadata=authority.bundle.decode())
    context.load_cert_chain(folder / "both.pem")
    context.check_hostname = False
    return context


def shaken(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake in memory, and one word of the server after it: the server's end, the client's.

    Raises:
        ssl.SSLError: as either says.
    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(up, down, server_side=True),
        client.wrap_bio(down, up, server_hostname="evaluator", session=session),
    )
    waiting: list[Callable[[], object]] = [end.do_handshake for end in ends]
    for _ in range(10):
        waiting = [do for do in waiting if not _done(do)]
    assert not waiting
    ends[0].write(b"hello")
    assert ends[1].read() == b"hello"
    return ends


def _done(do: Callable[[], object]) -> bool:
    try:
        do()
    except ssl.SSLWantReadError:
        return False
    return True


def test_only_tls_1_3_is_spoken_and_nothing_is_resumed(
    authority: Authority, tmp_path: Path
) -> None:
    authority.write(tmp_path / "svid", ENGINE)
    server = SvidFiles(tmp_path / "svid").server_context(["h2"])
    dialer = client(authority, tmp_path / "client", DB)
    ours, theirs = shaken(server, dialer)
    assert (ours.version(), ours.session_reused) == ("TLSv1.3", False)
    assert theirs.session is None or not theirs.session.has_ticket
    assert not shaken(server, dialer, theirs.session)[0].session_reused
    dialer.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shaken(server, dialer)


@pytest.mark.parametrize(
    ("uris", "spiffe"),
    [
        ((DB,), DB),
        ((DB, WEB), ""),
        ((), ""),
        (("https://hanzo.ai/",), ""),
        ((DB, "https://hanzo.ai/"), ""),
    ],
)
def test_a_peer_is_who_its_only_uri_says(
    authority: Authority, tmp_path: Path, uris: tuple[str, ...], spiffe: str
) -> None:
    authority.write(tmp_path / "svid", ENGINE)
    server = SvidFiles(tmp_path / "svid").server_context(["h2"])
    ours, _ = shaken(server, client(authority, tmp_path / "client", *uris))
    assert peer_of(ours).spiffe == spiffe


def test_a_peer_is_trusted_until_its_certificate_ends(authority: Authority, tmp_path: Path) -> None:
    authority.write(tmp_path / "svid", ENGINE)
    server = SvidFiles(tmp_path / "svid").server_context(["h2"])
    ours, theirs = shaken(server, client(authority, tmp_path / "client", DB))
    mine = theirs.getpeercert()
    assert mine is not None
    assert abs(peer_of(ours).until - ssl.cert_time_to_seconds(str(mine["notAfter"]))) < 60


def test_each_context_of_the_same_files_follows_them(authority: Authority, tmp_path: Path) -> None:
    authority.write(tmp_path / "svid", ENGINE)
    files = SvidFiles(tmp_path / "svid")
    contexts = [files.server_context([name]) for name in ("h2", "http/1.1")]
    renewed = Authority()
    renewed.write(tmp_path / "svid", ENGINE)
    dialer = client(renewed, tmp_path / "client", DB)
    for context in contexts:
        assert peer_of(shaken(context, dialer)[0]).spiffe == DB


# --- Files ----------------------------------------------------------------------------------------


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
