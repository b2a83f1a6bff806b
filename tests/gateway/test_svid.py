"""The gateway's SVID as its agent gives it, withholds it, and comes back; and from a folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from spiffe._proto import workload_pb2

from engine.spire.messages import Given
from gateway import svid
from gateway.svid import Agent, Folder, Identity, SvidError, source_of
from lab.mesh.authority import Authority, authority, issue, svid_files
from tests.engine.spire import workload_api
from tests.engine.spire.workload_api import serving
from tests.gateway.identities import DOMAIN, HOUR, NOW, Issuer, spire
from tests.waiting import eventually, running

LUX = f"spiffe://{DOMAIN}/lux-k8s/lux/wg-gateway"


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return spire()


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


@pytest.fixture
def agent(socket: Path) -> Iterator[Agent]:
    """A gateway's follower, in a thread."""
    made = Agent(socket)
    with running(made.follow):
        yield made


def given(identity: Identity) -> Given:
    private = identity.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    chain, bundle = (
        b"".join(certificate.public_bytes(Encoding.DER) for certificate in certificates)
        for certificates in (identity.chain, identity.authorities)
    )
    return Given(identity.spiffe, chain, private, bundle)


def has(agent: Agent, identity: Identity) -> Callable[[], bool]:
    def holds() -> bool:
        found = agent()
        return found is not None and found.chain == identity.chain

    return holds


def test_each_svid_that_comes_is_taken(agent: Agent, socket: Path, issuer: Issuer) -> None:
    assert agent() is None
    theirs = workload_api.Agent()
    with serving(socket, theirs):
        for identity in [issuer.identity(LUX) for _ in range(3)]:
            theirs.say(given(identity))
            eventually(has(agent, identity))
            assert agent() == identity
        assert theirs.calls == 1


def test_while_the_agent_is_away_the_last_one_stays(
    agent: Agent, socket: Path, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, second, theirs = issuer.identity(LUX), issuer.identity(LUX), workload_api.Agent()
    assert agent() is None
    with serving(socket, theirs):
        theirs.say(given(first))
        eventually(has(agent, first))
    caplog.clear()
    eventually(lambda: "gives none" in caplog.text)
    assert agent() == first
    with serving(socket, theirs):
        theirs.say(given(second))
        eventually(has(agent, second))
        eventually(lambda: caplog.messages[-1] == f"the gateway has an SVID of {LUX}")


def test_an_agent_that_refuses_is_asked_again_and_that_is_said_once(
    agent: Agent, socket: Path, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = (grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
    theirs, identity = workload_api.Agent(refusal), issuer.identity(LUX)
    with serving(socket, theirs):
        eventually(lambda: theirs.calls > 3)
        assert caplog.text.count("PERMISSION_DENIED") == 1
        assert agent() is None
        theirs.refusal = None
        theirs.say(given(identity))
        eventually(has(agent, identity))


def test_a_call_that_ends_or_is_too_old_is_made_again(
    agent: Agent, socket: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(svid, "_ASK_AGAIN", 0.5)
    theirs, identity = workload_api.Agent(), issuer.identity(LUX)
    with serving(socket, theirs):
        theirs.say(given(identity))
        eventually(has(agent, identity))
        eventually(lambda: theirs.calls > 3)
        theirs.end_calls()
        before = theirs.calls
        eventually(lambda: theirs.calls > before)
        assert agent() == identity


@pytest.mark.parametrize("message", [b"\xff", b""])
def test_what_is_no_svid_leaves_the_last_one(
    agent: Agent, socket: Path, issuer: Issuer, message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    good, better, theirs = issuer.identity(LUX), issuer.identity(LUX), workload_api.Agent()
    with serving(socket, theirs):
        theirs.say(given(good))
        eventually(has(agent, good))
        caplog.clear()
        theirs.say_bytes(message)
        eventually(lambda: "gives none" in caplog.text)
        assert agent() == good
        theirs.say(given(better))
        eventually(has(agent, better))


def test_a_bundle_of_another_trust_domain_counts_for_nothing_here(
    agent: Agent, socket: Path, issuer: Issuer
) -> None:
    identity, other = issuer.identity(LUX), authority("other.example", NOW, HOUR)
    mine = given(identity)
    message = workload_pb2.X509SVIDResponse(
        svids=[
            workload_pb2.X509SVID(
                spiffe_id=mine.spiffe,
                x509_svid=mine.chain,
                x509_svid_key=mine.key,
                bundle=mine.bundle,
            )
        ],
        federated_bundles={"spiffe://other.example": other.certificate.public_bytes(Encoding.DER)},
    )
    theirs = workload_api.Agent()
    with serving(socket, theirs):
        theirs.say_bytes(message.SerializeToString())
        eventually(has(agent, identity))
    found = agent()
    assert found is not None
    assert found.authorities == {issuer.root}


def test_the_key_is_in_no_text(issuer: Issuer) -> None:
    agent = Agent(Path("/agent.sock"))
    agent._given = issuer.identity(LUX)
    for text in (repr(agent), repr(agent._given)):
        assert "key" not in text.lower()


# --- A folder -------------------------------------------------------------------------------------


@pytest.fixture
def root() -> Authority:
    return authority(DOMAIN, NOW, HOUR)


def write(folder: Path, root: Authority, *, keyed_by: Authority | None = None) -> None:
    files = dict(svid_files(issue(root, LUX, NOW, HOUR), root))
    if keyed_by:
        files[svid.KEY] = issue(keyed_by, LUX, NOW, HOUR).key
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_a_folder_is_read_as_it_is_now(tmp_path: Path, root: Authority) -> None:
    source = source_of(f"file://{tmp_path}")
    assert source() is None
    found = []
    for _ in range(2):
        write(tmp_path, root)
        identity = source()
        assert identity is not None
        assert identity.spiffe == LUX
        assert identity.authorities == {root.certificate}
        found.append(identity.chain)
    assert found[0] != found[1]


@pytest.mark.parametrize("name", [svid.SVID, svid.KEY, svid.BUNDLE])
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_folder_without_an_svid_has_none(
    name: str,
    content: bytes | None,
    tmp_path: Path,
    root: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(tmp_path, root)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    source = Folder(tmp_path)
    assert [source(), source()] == [None, None]
    assert caplog.text.count("has none") == 1


def test_a_key_of_another_certificate_is_none(
    tmp_path: Path, root: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, root, keyed_by=root)
    assert Folder(tmp_path)() is None
    assert "not that of the certificate" in caplog.text


@pytest.mark.parametrize(
    "address", ["", "/run/agent.sock", "unix://host/x", "https://a/b", "file:", "unix:"]
)
def test_a_place_that_is_none(address: str) -> None:
    with pytest.raises(SvidError, match="no place of an SVID"):
        source_of(address)
