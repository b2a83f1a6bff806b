"""What key material looks like: in text, and in bytes.

Public keys, certificates, hashes and what is encrypted look like none of these.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

WIREGUARD = "WireGuard private key"
DER = "private key in DER"
_LAYERS = 3

# Between a field's name and its value: JSON, YAML, INI, arguments, and the same inside a string.
_IS = r"""[\\"'\s]*[:=\s](?:!!binary|[\\"'\s|>-])*"""
_LINES = r"[A-Za-z0-9+/]{43,}(?:\s+[A-Za-z0-9+/]{2,})*"
_KEY = re.compile(r"[A-Za-z0-9+/]{43}=|[0-9a-fA-F]{64}(?![0-9a-fA-F])")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+")
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# What stands for a password in documents, recipes and what is redacted already.
_PLACEHOLDER = re.compile(r"[*x.]+|\[.*|<.*|\$.*|\{.*|%\(.*|%s|redacted", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of secret: where it may be in a text, and whether it is one there."""

    name: str
    pattern: re.Pattern[str]
    accept: Callable[[re.Match[str]], bool] = lambda _: True


def _is_token(match: re.Match[str]) -> bool:
    """A JWT's first part is a JSON object that names an algorithm."""
    try:
        header = json.loads(_unpadded(match["header"]))
    except ValueError:
        return False
    return isinstance(header, dict) and "alg" in header


def _is_password(match: re.Match[str]) -> bool:
    return not _PLACEHOLDER.fullmatch(match["password"].strip("'\"\\"))


def _is_legacy_vault(match: re.Match[str]) -> bool:
    text = match["token"]
    return all(re.search(part, text) for part in ("[a-z]", "[A-Z]", "[0-9]"))


def _is_key(match: re.Match[str]) -> bool:
    """32 bytes in base64 or hexadecimal, perhaps once more in base64, as Secrets have it."""
    text = "".join(match["value"].split())
    for _ in range(_LAYERS):
        if _KEY.match(text):
            return True
        text = _decoded(text)
    return False


# Each may be broken where a YAML writer breaks lines: at spaces.
TEXTS = (
    Kind(
        "private key in PEM",
        re.compile(
            r"-----BEGIN[\s+]+(?:[A-Z0-9]+[\s+]+)*PRIVATE[\s+]+KEY-----"
            r"(?:(?!-----).){0,200}?[A-Za-z0-9+/]{32}",
            re.DOTALL,
        ),
    ),
    Kind(
        WIREGUARD,
        re.compile(
            rf"(?:private|preshared)[_. -]?key{_IS}(?P<value>{_LINES}={{0,2}})",
            re.IGNORECASE,
        ),
        _is_key,
    ),
    Kind(
        "token (JWT)",
        re.compile(
            r"(?<![\w-])(?P<header>ey[\w-]{8,})\.(?P<claims>ey[\w-]{2,})\.(?P<signature>[\w-]{16,})",
            re.ASCII,
        ),
        _is_token,
    ),
    Kind("Vault token", re.compile(r"(?<![\w.-])hv[sbr]\.[\w-]{20,}", re.ASCII)),
    Kind(
        "Vault token",
        re.compile(r"(?<![\w.-])s\.(?P<token>[A-Za-z0-9]{24})(?![\w.-])", re.ASCII),
        _is_legacy_vault,
    ),
    Kind("Vault secret ID", re.compile(rf"secret[_-]?id{_IS}{_UUID}", re.IGNORECASE)),
    Kind(
        "password in a URL",
        re.compile(
            r"(?<![\w+])[a-z][a-z0-9+]{2,20}://[^\s:/@\"']*:(?P<password>[^\s/@\"']+)@[\w\[]"
        ),
        _is_password,
    ),
    Kind(
        "password of a database",
        re.compile(
            r"\b(?:host|hostaddr|user|dbname)\s*=.{0,300}?"
            r"\bpassword\s*=\s*(?P<password>'[^']+'|[^\s'\"\\&]+)",
            re.DOTALL,
        ),
        _is_password,
    ),
    Kind(
        "password of a database",
        re.compile(
            r"\bpassword\s*=\s*(?P<password>'[^']+'|[^\s'\"\\&]+)"
            r"\s+(?:\w+\s*=\s*\S+\s+){0,8}?(?:host|hostaddr|user|dbname)\s*=",
        ),
        _is_password,
    ),
    Kind(
        "password of a database",
        re.compile(rf"\bPGPASSWORD{_IS}(?P<password>[^\s'\"\\]+)"),
        _is_password,
    ),
    Kind(
        "password of a database",
        re.compile(r"\bPASSWORD\s+'(?P<password>[^']+)'", re.IGNORECASE),
        _is_password,
    ),
    Kind(
        "SPIRE join token",
        re.compile(rf"(?:join[_-]?token(?:{_IS}|/)|\bToken:\s*){_UUID}", re.IGNORECASE),
    ),
    Kind("DigitalOcean token", re.compile(r"\bdo[opr]_v1_[0-9a-f]{64}")),
    Kind(
        "private key in a JWK",
        re.compile(r"\"kty\"[^{}]{0,2000}?\"d\"\s*:\s*\"[\w-]{20,}\"", re.DOTALL | re.ASCII),
    ),
    Kind(
        "private key in a JWK",
        re.compile(r"\"d\"\s*:\s*\"[\w-]{20,}\"[^{}]{0,2000}?\"kty\"", re.DOTALL | re.ASCII),
    ),
)

_LENGTH = rb"(?:[\x10-\x7f]|\x81.|\x82..)"
# PKCS#8: version, algorithm and then, unlike anything public, an octet string.
_PKCS8 = re.compile(
    rb"\x30" + _LENGTH + rb"\x02\x01[\x00\x01]\x30(?P<length>[\x05-\x40])\x06", re.DOTALL
)
_SEC1 = re.compile(rb"\x30" + _LENGTH + rb"\x02\x01\x01\x04[\x1c-\x42]", re.DOTALL)
_PKCS1 = re.compile(rb"\x30" + _LENGTH + rb"\x02\x01\x00\x02[\x40-\x7f\x81\x82]", re.DOTALL)
# The name of a cipher follows (openssh's PROTOCOL.key); the magic alone is no key.
_OPENSSH = re.compile(rb"openssh-key-v1\0\0\0\0[\x04-\x40][a-z0-9@.-]{4}")
_OCTET_STRING = 0x04


def in_text(text: str) -> Iterator[tuple[str, int, int]]:
    """Kind, beginning and end of each secret in a text."""
    for kind in TEXTS:
        for match in kind.pattern.finditer(text):
            if kind.accept(match):
                yield kind.name, match.start(), match.end()


def in_bytes(data: bytes) -> Iterator[tuple[str, int]]:
    """Kind and offset of each private key in DER or OpenSSH's format, also of one cut short."""
    for match in _PKCS8.finditer(data):
        after = match.end() - 1 + match["length"][0]
        if data[after : after + 1] == bytes([_OCTET_STRING]):
            yield DER, match.start()
    for pattern in (_SEC1, _PKCS1):
        yield from ((DER, match.start()) for match in pattern.finditer(data))
    for match in _OPENSSH.finditer(data):
        yield "private key of OpenSSH", match.start()


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _decoded(text: str) -> str:
    """One layer of base64 taken off, as far as it is base64."""
    leading = _BASE64.match(text)
    whole = leading[0] if leading else ""
    whole = whole[: len(whole) // 4 * 4] if len(whole) % 4 == 1 else whole
    return base64.b64decode(whole + "=" * (-len(whole) % 4)).decode("latin-1")
