"""Scans carriers of text: files, serialised states, objects of an API server."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from lab.scan.kinds import WIREGUARD, in_bytes, in_text
from lab.scan.wrappings import View, views

PLANTED = "planted key"
_KEY_BYTES = 32
_DIGITS = 12
_KEY = re.compile(r"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=(?![A-Za-z0-9+/=])")


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """Key material: where it is, and by which wrappings. Its value is not kept."""

    carrier: str
    line: int
    column: int
    kind: str
    wrappings: tuple[str, ...]
    fingerprint: str

    def __str__(self) -> str:
        inside = f", in {' in '.join(reversed(self.wrappings))}" if self.wrappings else ""
        place = f"{self.carrier}:{self.line}:{self.column}"
        return f"{place}: {self.kind}{inside} [sha256 {self.fingerprint}]"


@dataclass(slots=True)
class Scanner:
    """Scans one carrier after another. ``planted`` are bytes that are secret whatever they are."""

    planted: tuple[bytes, ...] = ()
    _keys: dict[bytes, Found] = field(default_factory=dict)
    _shortest: int = 0

    def __post_init__(self) -> None:
        """Measure the secrets."""
        self._shortest = min(map(len, self.planted), default=0)

    def scan(self, carrier: str, data: bytes) -> list[Found]:
        """What is in a carrier, in the order of its lines."""
        text = data.decode("latin-1")
        found: dict[tuple[int, str], Found] = {}
        for view in views(data):
            for kind, start, end in self._in_view(view):
                origin = view.origin(start)
                one = _found(carrier, text, view, (kind, origin), view.text[start:end])
                found.setdefault((origin, kind), one)
            self._collect(carrier, text, view)
        return sorted(found.values())

    def pairs(self) -> list[Found]:
        """Keys of WireGuard that any carrier had the public half of, whatever they were called."""
        return [place for key, place in sorted(self._keys.items()) if _public(key) in self._keys]

    def _in_view(self, view: View) -> Iterator[tuple[str, int, int]]:
        if view.is_text:
            yield from in_text(view.text)
        data = view.data
        yield from ((kind, start, start + _KEY_BYTES) for kind, start in in_bytes(data))
        # Most views are too short for any of them.
        for secret in self.planted if len(data) >= self._shortest else ():
            start = data.find(secret)
            if start >= 0:
                yield PLANTED, start, start + len(secret)

    def _collect(self, carrier: str, text: str, view: View) -> None:
        for match in _KEY.finditer(view.text):
            key = base64.b64decode(match[0])
            place = (WIREGUARD, view.origin(match.start()))
            self._keys.setdefault(key, _found(carrier, text, view, place, match[0]))


def scan(carriers: Iterable[tuple[str, bytes]], planted: Iterable[bytes] = ()) -> list[Found]:
    """All key material in some carriers, by name and content."""
    scanner = Scanner(tuple(planted))
    found = {one for carrier, data in carriers for one in scanner.scan(carrier, data)}
    places = {(one.carrier, one.line, one.column) for one in found}
    more = (one for one in scanner.pairs() if (one.carrier, one.line, one.column) not in places)
    return sorted({*found, *more})


def _found(carrier: str, text: str, view: View, place: tuple[str, int], value: str) -> Found:
    kind, origin = place
    line = text.count("\n", 0, origin) + 1
    column = origin - (text.rfind("\n", 0, origin) + 1) + 1
    return Found(carrier, line, column, kind, view.wrappings, fingerprint(value))


def fingerprint(value: str) -> str:
    """By what a secret is known that is never shown; a text in Latin-1."""
    return hashlib.sha256(value.encode("latin-1")).hexdigest()[:_DIGITS]


def _public(key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
