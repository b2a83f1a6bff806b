"""Key material of each kind, made anew; and all that it may be wrapped in."""

import base64
import gzip
import json
from collections.abc import Callable
from functools import cache
from urllib.parse import quote, quote_plus

import yaml
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import strategies as st

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_NONE = NoEncryption()
_BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_HEX = "0123456789abcdef"


@cache
def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@st.composite
def keys(draw: st.DrawFn) -> PrivateKey:
    kind = draw(st.sampled_from(["p256", "p384", "ed25519", "rsa"]))
    if kind == "rsa":
        return _rsa()
    seed = draw(st.binary(min_size=32, max_size=32).filter(any))
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    curve = ec.SECP256R1() if kind == "p256" else ec.SECP384R1()
    return ec.derive_private_key(int.from_bytes(seed) >> 8 | 1, curve)


@st.composite
def pem(draw: st.DrawFn) -> bytes:
    key = draw(keys())
    formats = [PrivateFormat.PKCS8, PrivateFormat.OpenSSH]
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        formats.append(PrivateFormat.TraditionalOpenSSL)
    made: bytes = key.private_bytes(Encoding.PEM, draw(st.sampled_from(formats)), _NONE)
    return made


@st.composite
def der(draw: st.DrawFn) -> bytes:
    key = draw(keys())
    formats = [PrivateFormat.PKCS8]
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        formats.append(PrivateFormat.TraditionalOpenSSL)
    made: bytes = key.private_bytes(Encoding.DER, draw(st.sampled_from(formats)), _NONE)
    before = draw(st.binary(max_size=20))
    return before + made


def encoded_der() -> st.SearchStrategy[bytes]:
    ways: list[Callable[[bytes], bytes]] = [base64.b64encode, lambda data: data.hex().encode()]
    return st.builds(lambda data, way: way(data), der(), st.sampled_from(ways))


@st.composite
def wireguard(draw: st.DrawFn) -> bytes:
    key = draw(st.binary(min_size=32, max_size=32))
    text = base64.b64encode(key).decode()
    field = draw(st.sampled_from(["PrivateKey", "private_key", "privateKey", "wg-private-key"]))
    ways = [
        f"[Interface]\n{field} = {text}\nListenPort = 51820\n",
        json.dumps({field: text, "listenPort": 51820}),
        f"{field}: {text}\n",
        f"{field}={key.hex()}\n",
        yaml.safe_dump({"kind": "Secret", "data": {field: base64.b64encode(text.encode())}}),
        yaml.safe_dump({"data": {field: base64.b64encode(text.encode()).decode()}}),
        f"PresharedKey = {text}",
    ]
    return draw(st.sampled_from(ways)).encode()


def _segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@st.composite
def jwt(draw: st.DrawFn) -> bytes:
    header = {"alg": draw(st.sampled_from(["RS256", "ES256"])), "kid": draw(st.text(max_size=8))}
    claims = {"iss": "kubernetes/serviceaccount", "sub": draw(st.text(max_size=20)), "exp": 1}
    signature = draw(st.text(_BASE64URL, min_size=43, max_size=86))
    return f"{_segment(header)}.{_segment(claims)}.{signature}".encode()


@st.composite
def vault(draw: st.DrawFn) -> bytes:
    start = draw(st.sampled_from(["hvs.", "hvb."]))
    return f"{start}{draw(st.text(_BASE64URL, min_size=24, max_size=90))}".encode()


@st.composite
def dsn(draw: st.DrawFn) -> bytes:
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    password = draw(st.text(letters, min_size=12, max_size=30))
    ways = [
        f"postgresql://zt:{password}@zt-audit-db:5432/audit",
        f"redis://:{password}@redis:6379/0",
        f"host=spire-datastore dbname=spire user=spire password={password} sslmode=verify-full",
        f"password={password} host=spire-datastore dbname=spire",
        f"PGPASSWORD={password}",
    ]
    return draw(st.sampled_from(ways)).encode()


@st.composite
def join_token(draw: st.DrawFn) -> bytes:
    token = draw(st.uuids(version=4))
    ways = [
        f'join_token = "{token}"',
        f"spire-agent run -joinToken {token}",
        f"Token: {token}",
        json.dumps({"joinToken": str(token)}),
    ]
    return draw(st.sampled_from(ways)).encode()


@st.composite
def digitalocean(draw: st.DrawFn) -> bytes:
    return f"dop_v1_{draw(st.text(_HEX, min_size=64, max_size=64))}".encode()


KINDS: dict[str, st.SearchStrategy[bytes]] = {
    "PEM": pem(),
    "DER": encoded_der(),
    "WireGuard": wireguard(),
    "JWT": jwt(),
    "Vault": vault(),
    "DSN": dsn(),
    "join token": join_token(),
    "DigitalOcean": digitalocean(),
}


def _lines(data: bytes) -> bytes:
    return base64.encodebytes(data)


def _block(data: bytes) -> bytes:
    body = "".join(f"      {line}\n" for line in _lines(data).decode().splitlines())
    return f"kind: Secret\ndata:\n  tls.key: |\n{body}".encode()


def _json(data: bytes) -> bytes:
    return json.dumps({"kind": "ConfigMap", "data": {"file": data.decode()}}).encode()


def _yaml(data: bytes) -> bytes:
    return yaml.safe_dump({"kind": "ConfigMap", "data": {"file": data.decode()}}).encode()


def _folded(data: bytes) -> bytes:
    return yaml.safe_dump({"a": [{"b": data.decode() + "\t"}]}, default_style='"').encode()


def _secret(data: bytes) -> bytes:
    return json.dumps(
        {"kind": "Secret", "data": {"value": base64.b64encode(data).decode()}}
    ).encode()


def _state(data: bytes) -> bytes:
    resource = {"urn": "urn:pulumi:lab::hanzo-zt::x", "inputs": {"data": {"k": data.decode()}}}
    return json.dumps({"deployment": {"resources": [resource]}}, indent=4).encode()


def _log(data: bytes) -> bytes:
    return b"2026-11-24T20:00:00Z stdout F msg=" + json.dumps(data.decode()).encode() + b" level=1"


WRAPPINGS: dict[str, Callable[[bytes], bytes]] = {
    "base64": base64.b64encode,
    "base64 in lines": _lines,
    "base64 in a block": _block,
    "base64url": base64.urlsafe_b64encode,
    "gzip": lambda data: base64.b64encode(gzip.compress(data)),
    "hex": lambda data: data.hex().encode(),
    "percent": lambda data: quote(data).encode(),
    "form": lambda data: b"key=" + quote_plus(data).encode(),
}
CARRIERS: dict[str, Callable[[bytes], bytes]] = {
    "JSON": _json,
    "YAML": _yaml,
    "folded YAML": _folded,
    "Secret": _secret,
    "state": _state,
    "log": _log,
}
