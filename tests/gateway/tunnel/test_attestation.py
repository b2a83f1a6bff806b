"""Who vouches for a tunnel's keys: its own gateway's SVID, for this question, and nobody else."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.svid import Identity
from gateway.tunnel import talk
from gateway.tunnel.attestation import (
    Claim,
    UnattestedError,
    attest,
    check,
    is_nonce,
    new_nonce,
)
from gateway.tunnel.book import Book, Key, offer_of
from gateway.tunnel.peers import Peer
from lab.certificates import certificate_builder, key_usage
from lab.mesh.authority import Authority
from tests.gateway.identities import DOMAIN, HOUR, NOW, Issuer, spire
from zt.model import KeyType

LUX, HANZO = (f"spiffe://{DOMAIN}/{name}/wg-gateway" for name in ("lux-k8s/lux", "hanzo-k8s/hanzo"))
BOOK = Book(keys={0: Key("a-private-key", f"{'lux':x<43}=", 1000.0)})
OFFER = BOOK.offer({}).text()
CLAIM = Claim("lux-k8s", new_nonce(), OFFER)


@cache
def issuer() -> Issuer:
    return spire()


@cache
def lux() -> Identity:
    return issuer().identity(LUX)


@cache
def hanzo() -> Identity:
    return issuer().identity(HANZO)


@cache
def attestation() -> str:
    return attest(lux(), CLAIM)


def written(parts: list[bytes]) -> str:
    return " ".join(base64.b64encode(part).decode() for part in parts)


def judged(word: str | None, claim: Claim = CLAIM, own: Identity | None = None) -> None:
    check(word, claim, LUX, own or hanzo(), NOW)


def refused(word: str | None, claim: Claim = CLAIM, own: Identity | None = None) -> str:
    with pytest.raises(UnattestedError) as caught:
        judged(word, claim, own)
    return str(caught.value)


def test_an_offer_is_attested_by_the_svid_of_its_gateway() -> None:
    judged(attestation())


@pytest.mark.parametrize("key_type", KeyType)
def test_with_each_kind_of_key_that_authorities_have(key_type: KeyType) -> None:
    made = spire(key_type)
    judged(attest(made.identity(LUX), CLAIM), own=made.identity(HANZO))


def test_with_a_key_of_384_bits() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    identity = replace(lux(), chain=(leaf(key.public_key()), *issuer().between), key=key)
    judged(attest(identity, CLAIM))


# --- Who is refused -------------------------------------------------------------------------------


def leaf(
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    *uris: str,
    by: Authority | None = None,
    usage: x509.KeyUsage | None = None,
    is_ca: bool = False,
) -> x509.Certificate:
    """A certificate that SPIRE's CA signed, and that need be no SVID."""
    above = by or issuer().own
    subject, end = x509.Name([]), NOW + timedelta(seconds=HOUR)
    # The builder takes both.
    public = cast("ec.EllipticCurvePublicKey", key)
    start = NOW - timedelta(minutes=1)
    names = [x509.UniformResourceIdentifier(uri) for uri in uris or (LUX,)]
    return (
        certificate_builder(subject, above.certificate.subject, public, start, end)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(usage or key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(above.key, hashes.SHA256())
    )


def with_leaf(*uris: str, usage: x509.KeyUsage | None = None, is_ca: bool = False) -> Identity:
    key = lux().key
    made = leaf(key.public_key(), *uris, usage=usage, is_ca=is_ca)
    return replace(lux(), chain=(made, *issuer().between))


def below_a_workload() -> Identity:
    """A workload that plays a CA: it signs what it likes."""
    burglar = issuer().identity(HANZO)
    key = ec.generate_private_key(ec.SECP256R1())
    own = Authority(DOMAIN, burglar.chain[0], burglar.key)
    return replace(burglar, chain=(leaf(key.public_key(), by=own), *burglar.chain), key=key)


def with_a_stolen_certificate() -> Identity:
    return replace(lux(), key=ec.generate_private_key(ec.SECP256R1()))


def expired(issued: timedelta) -> Identity:
    return issuer().identity(LUX, lifetime=60, now=NOW + issued)


REFUSED: dict[str, tuple[Callable[[], Identity], str]] = {
    "another mesh": (lambda: spire().identity(LUX), "unable to get local issuer"),
    "another domain": (
        lambda: issuer().identity(LUX.replace(DOMAIN, "attacker.example")),
        "permitted subtree violation",
    ),
    "another cluster": (lambda: issuer().identity(HANZO), f"it is {HANZO}, and should be {LUX}"),
    "another service": (lambda: issuer().identity(f"{LUX}-2"), "it is spiffe://"),
    "expired": (lambda: expired(timedelta(minutes=-5)), "has expired"),
    "not yet": (lambda: expired(timedelta(minutes=5)), "not yet valid"),
    "below a workload": (below_a_workload, "not good here"),
    "without a chain": (lambda: replace(lux(), chain=lux().chain[:1]), "unable to get local"),
    "cut off": (lambda: replace(lux(), chain=lux().chain[:2]), "unable to get local issuer"),
    "stolen": (with_a_stolen_certificate, "its signature is not of this offer"),
    "two names": (lambda: with_leaf(LUX, HANZO), f"it is {LUX} and {HANZO}"),
    "a CA": (lambda: with_leaf(is_ca=True), "no X.509-SVID of a workload"),
    "signs certificates": (
        lambda: with_leaf(usage=key_usage(signs_certificates=True)),
        "no X.509-SVID of a workload",
    ),
}


@pytest.mark.parametrize("who", REFUSED)
def test_nobody_else_can_attest_it(who: str) -> None:
    made, reason = REFUSED[who]
    assert reason in refused(attest(made(), CLAIM))


def test_a_certificate_without_the_parts_of_an_svid() -> None:
    above, key = issuer().own, lux().key
    end = NOW + timedelta(seconds=HOUR)
    bare = certificate_builder(
        x509.Name([]), above.certificate.subject, key.public_key(), NOW - timedelta(minutes=1), end
    ).sign(above.key, hashes.SHA256())
    identity = replace(lux(), chain=(bare, *issuer().between))
    assert refused(attest(identity, CLAIM)) == "its certificate is no X.509-SVID"


def test_a_key_of_no_curve() -> None:
    key = rsa.generate_private_key(65537, 2048)
    identity = replace(lux(), chain=(leaf(key.public_key()), *issuer().between))
    assert "of no curve" in refused(attest(identity, CLAIM))


def test_a_ca_between_that_has_ended() -> None:
    made = spire(lifetime=60)
    later = NOW + timedelta(minutes=2)
    with pytest.raises(UnattestedError, match="has expired"):
        check(attest(made.identity(LUX), CLAIM), CLAIM, LUX, made.identity(HANZO), later)


def test_the_bundle_of_now_decides() -> None:
    """A root counts from when it is published, and no longer than that."""
    other = spire()
    mine = issuer().identity(HANZO, authorities=[other.root])
    for signer in (issuer(), other):
        judged(attest(signer.identity(LUX), CLAIM), own=mine)
    assert "unable to get local" in refused(attestation(), own=other.identity(HANZO))


def test_without_an_svid_of_its_own_a_gateway_believes_nobody() -> None:
    ended = issuer().identity(HANZO, lifetime=0, now=NOW)
    for own in (None, ended):
        with pytest.raises(UnattestedError, match="has no SVID now"):
            check(attestation(), CLAIM, LUX, own, NOW)


def test_a_policy_that_names_no_gateway() -> None:
    with pytest.raises(UnattestedError, match="names no gateway"):
        check(attestation(), CLAIM, None, hanzo(), NOW)


# --- What is signed -------------------------------------------------------------------------------


def test_an_old_answer_can_not_be_told_again() -> None:
    again = replace(CLAIM, nonce=new_nonce())
    assert refused(attestation(), again) == "its signature is not of this offer and this question"


def test_an_answer_is_of_one_cluster() -> None:
    assert "its signature" in refused(attestation(), replace(CLAIM, cluster="hanzo-k8s"))


@pytest.mark.parametrize(
    "content",
    [
        CLAIM.signed().lstrip(b" "),
        CLAIM.signed().partition(b"\0")[2],
        b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + CLAIM.signed().partition(b"\0")[2],
        CLAIM.signed().replace(b", 1\0", b", 2\0"),
    ],
)
def test_a_signature_for_another_purpose_is_none(content: bytes) -> None:
    _, _, chain = attestation().partition(" ")
    signature = lux().key.sign(content, ec.ECDSA(hashes.SHA256()))
    assert "its signature" in refused(f"{base64.b64encode(signature).decode()} {chain}")


def test_nothing_is_signed_but_for_a_number_that_was_just_made() -> None:
    assert is_nonce(CLAIM.nonce)
    assert len({new_nonce() for _ in range(100)}) == 100
    for text in ("", CLAIM.nonce[1:], f"{CLAIM.nonce}0", CLAIM.nonce.upper()[:-1] + "G"):
        assert not is_nonce(text)
        assert page(lux)(text).headers == {}
    assert not is_nonce(f"{CLAIM.nonce}\n")


@given(st.integers(0, len(OFFER) - 1), st.characters(codec="utf-8"))
@example(OFFER.index("lux"), "y")
def test_no_character_of_an_offer_can_be_changed(index: int, other: str) -> None:
    changed = OFFER[:index] + other + OFFER[index + 1 :]
    if changed != OFFER:
        assert "its signature" in refused(attestation(), replace(CLAIM, offer=changed))


@given(st.text())
def test_nothing_can_be_added_or_left_out(other: str) -> None:
    changed = (f"{OFFER}{other}", f"{other}{OFFER}", other, OFFER[: len(other)])
    for offer in changed:
        if offer != OFFER:
            assert "its signature" in refused(attestation(), replace(CLAIM, offer=offer))


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.integers(0, 10_000), st.characters(codec="ascii"))
def test_no_character_of_an_attestation_can_be_changed(index: int, other: str) -> None:
    word = attestation()
    index %= len(word)
    changed = word[:index] + other + word[index + 1 :]
    if changed != word:
        assert refused(changed)


@given(st.one_of(st.text(), st.lists(st.binary(max_size=64)).map(written)))
@example(" ")
@example(" ".join(["AAAA"] * 10))
def test_what_is_no_attestation_is_refused(word: str) -> None:
    assert refused(word)


# --- How gateways ask -----------------------------------------------------------------------------


def page(svids: Callable[[], Identity | None]) -> talk.Page:
    return talk.offer_page(lambda: OFFER, "lux-k8s", svids)


@contextmanager
def answering(svids: Callable[[], Identity | None]) -> Iterator[Callable[[str], talk.Answer]]:
    """A gateway that answers; yields a way to ask it."""
    server = talk.serve("127.0.0.1", 0, {talk.PATH: page(svids)})
    port = int(server.server_address[1])
    try:
        yield lambda nonce: talk.ask("127.0.0.1", "127.0.0.1", nonce, port)
    finally:
        server.shutdown()
        server.server_close()


def asker(spiffe: str | None = LUX) -> talk.Asker:
    allowed = ("10.10.0.2/32",)
    peer = Peer("lux-k8s", "192.0.2.2", 51820, "10.10.0.2", allowed, 25, "a key", spiffe)
    return talk.Asker(peer, "10.10.0.1", hanzo, lambda: None, lambda: 0.0)


def test_what_is_attested_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    own, nonce = asker(), new_nonce()
    with answering(lux) as ask:
        answer = ask(nonce)
    own.take(nonce, answer, offer_of(answer.offer))
    assert own.heard == BOOK.offer({})
    assert own.answered is not None
    assert own.unattested == 0
    assert caplog.messages == [f"what lux-k8s tells is attested by {LUX}"]


def test_what_is_not_is_a_sign_of_life_and_nothing_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    own, sources = asker(), iter([None, None, hanzo(), lux(), None])
    with answering(lambda: next(sources)) as ask:
        for count, heard in enumerate((None, None, None, OFFER, OFFER)):
            before, nonce = own.answered, new_nonce()
            answer = ask(nonce)
            own.take(nonce, answer, offer_of(answer.offer))
            assert own.answered != before
            assert own.heard == (offer_of(heard) if heard else None), count
    assert own.unattested == 4
    # Each reason once, until it is another.
    assert [message.partition(": ")[0] for message in caplog.messages] == [
        "nothing is learned of lux-k8s",
        "nothing is learned of lux-k8s",
        f"what lux-k8s tells is attested by {LUX}",
        "nothing is learned of lux-k8s",
    ]


def test_an_answer_to_another_question_is_not_heard() -> None:
    own, nonce = asker(), new_nonce()
    with answering(lux) as ask:
        answer = ask(nonce)
    own.take(new_nonce(), answer, offer_of(answer.offer))
    assert (own.heard, own.unattested) == (None, 1)
