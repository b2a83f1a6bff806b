"""Whatever is secret is found, however it is wrapped; what is public or encrypted is not."""

import base64
import hashlib
import json
import os
import time
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.mesh.authority import authority
from lab.scan.scan import PLANTED, scan
from tests.scan.planting import CARRIERS, KINDS, WRAPPINGS, PrivateKey

EVERYTHING = WRAPPINGS | CARRIERS


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_each_kind_is_found_in_each_carrier(kind: str, carrier: str, data: st.DataObject) -> None:
    found = scan([("x", CARRIERS[carrier](data.draw(KINDS[kind])))])

    assert found


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_it_is_found_under_any_wrappings(kind: str, data: st.DataObject) -> None:
    content = data.draw(KINDS[kind])
    for name in data.draw(st.lists(st.sampled_from(sorted(EVERYTHING)), max_size=3)):
        content = EVERYTHING[name](content)

    assert scan([("x", content)])


@given(st.data())
def test_a_planted_key_is_found_whatever_it_looks_like(data: st.DataObject) -> None:
    secret = data.draw(st.binary(min_size=16, max_size=40))
    text = data.draw(st.sampled_from([base64.b64encode(secret), secret.hex().encode()]))
    content = CARRIERS[data.draw(st.sampled_from(sorted(CARRIERS)))](b"it is " + text)

    assert {found.kind for found in scan([("x", content)], [secret])} == {PLANTED}


@given(st.binary(min_size=32, max_size=32))
def test_a_wireguard_key_is_known_by_its_public_half(seed: bytes) -> None:
    key = x25519.X25519PrivateKey.from_private_bytes(seed)
    private = base64.b64encode(key.private_bytes_raw())
    public = base64.b64encode(key.public_key().public_bytes_raw())
    found = scan([("state", b'{"fingerprint": "%b"}' % private), ("peers", b"- %b" % public)])

    assert [(one.carrier, one.line, one.column) for one in found] == [("state", 1, 18)]


@cache
def _public() -> list[bytes]:
    keys: list[PrivateKey] = [
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ]
    halves = [key.public_key() for key in keys]
    wireguard = x25519.X25519PrivateKey.generate().public_key().public_bytes_raw()
    digest = hashlib.sha256(b"x")
    return [
        *(h.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for h in halves),
        *(
            h.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex().encode()
            for h in halves
        ),
        halves[0].public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        *(certificate(encoding) for encoding in (Encoding.PEM, Encoding.DER)),
        b"PublicKey = " + base64.b64encode(wireguard),
        json.dumps({"publicKey": base64.b64encode(wireguard).decode()}).encode(),
        f"image@sha256:{digest.hexdigest()}".encode(),
        b"integrity: sha256-" + base64.b64encode(digest.digest()),
        # Pulumi's envelopes: of a passphrase, and of one value.
        b'"encryptionsalt": "v1:%b:v1:%b:%b"'
        % tuple(base64.b64encode(os.urandom(size)) for size in (8, 12, 40)),
        json.dumps({"ciphertext": "v1:" + base64.b64encode(os.urandom(200)).decode()}).encode(),
        b"postgresql://zt@zt-audit-db:5432/audit?passfile=/run/pgpass",
        b"host=spire-datastore user=spire password={spire} dbname=spire",
        b"postgresql://zt:$(PASSWORD)@zt-audit-db/audit postgresql://zt:****@zt-audit-db/audit",
        b"PrivateKey = <from-kms>",
        b"-----BEGIN PRIVATE KEY-----",
        b"# PrivateKey is not here: the gateway sets it by file, from KMS.",
        b"join_token: f2fc9465, uid: f2fc9465-f0fe-4dff-8b43-e8379daf68a5",
        b"spec.serviceAccountName.hvs.short s.metadata.annotations",
        b"openssh-key-v1\0",
    ]


def certificate(encoding: Encoding) -> bytes:
    made = authority("hanzo.ai", datetime.now(UTC), 60).certificate.public_bytes(encoding)
    return made if encoding is Encoding.PEM else base64.b64encode(made)


@pytest.mark.parametrize("number", range(len(_public())))
@pytest.mark.parametrize("carrier", [*CARRIERS, "base64", "hex", "percent"])
def test_what_is_public_or_encrypted_is_not_reported(carrier: str, number: int) -> None:
    assert scan([("x", EVERYTHING[carrier](_public()[number]))]) == []


@given(st.binary(max_size=4000), st.sampled_from(sorted(EVERYTHING)))
def test_noise_is_no_secret(noise: bytes, wrapping: str) -> None:
    content = EVERYTHING[wrapping](base64.b64encode(noise))

    assert scan([("x", content), ("y", noise)]) == []


def test_it_says_where_and_never_what() -> None:
    state = CARRIERS["state"](b"[Interface]\nPrivateKey = " + base64.b64encode(bytes(range(32))))
    (found,) = scan([("state.json", state)])

    line = state.decode().splitlines()[found.line - 1]
    assert line[found.column - 1 :].startswith("PrivateKey")
    assert str(found).startswith(f"state.json:{found.line}:{found.column}: WireGuard private key")
    assert base64.b64encode(bytes(range(32))).decode() not in str(found)


def test_a_state_of_five_megabytes_is_scanned_in_seconds() -> None:
    policy = (
        Path(__file__).parents[2] / "tests/golden/hanzo/hanzo-k8s/decisions.json"
    ).read_bytes()
    state = b"\n".join(CARRIERS["state"](policy) for _ in range(5_000_000 // len(policy)))
    started = time.process_time()

    assert scan([("state", state)]) == []
    assert time.process_time() - started < 60
