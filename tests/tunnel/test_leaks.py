"""What the proof that keys are nowhere takes for kept, and what for broken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lab.check.model import BrokenError
from lab.scan.carriers import Carrier
from lab.tunnel.leaks import Somewhere, _clean

KNOWN = (b"K" * 32,)
PEM = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)


@dataclass
class Shelf:
    """Carriers by name, and one more while something is put there."""

    found: dict[str, str] = field(default_factory=lambda: {"a": "x", "b": "y"})

    def look(self) -> Iterator[Carrier]:
        yield from ((name, text.encode()) for name, text in self.found.items())

    @contextmanager
    def plant(self, secret: str) -> Iterator[None]:
        self.found["planted"] = f"as {secret} is"
        try:
            yield
        finally:
            del self.found["planted"]

    @contextmanager
    def lose(self, secret: str) -> Iterator[None]:
        del secret
        yield

    @property
    def place(self) -> Somewhere:
        return Somewhere("a shelf", self.look, self.plant)


def test_all_is_looked_through_and_what_was_put_there_is_found() -> None:
    shelf = Shelf()
    assert "3 looked through" in _clean(shelf.place, KNOWN)
    assert set(shelf.found) == {"a", "b"}


def test_a_look_that_misses_what_was_put_there_proves_nothing() -> None:
    shelf = Shelf()
    for place in (replace(shelf.place, plant=shelf.lose), replace(shelf.place, finds=2)):
        with pytest.raises(BrokenError, match="what was put into"):
            _clean(place, KNOWN)


def test_a_known_key_or_what_looks_like_one_is_a_leak() -> None:
    for text, kind in (("with " + "K" * 32, "planted key"), (PEM, "b:1:1")):
        shelf = Shelf({"b": text})
        with pytest.raises(BrokenError, match=kind):
            _clean(shelf.place, KNOWN)


def test_a_secret_that_is_allowed_by_name_may_have_its_own_and_no_known_one() -> None:
    shelf = Shelf({"b": PEM})
    named = replace(shelf.place, allowed=frozenset({"b"}))
    assert _clean(named, KNOWN).endswith("passwords are in b alone")
    with pytest.raises(BrokenError, match="b:1:1"):
        _clean(replace(shelf.place, allowed=frozenset({"a"})), KNOWN)
    shelf.found["b"] = "K" * 32
    with pytest.raises(BrokenError, match="planted key"):
        _clean(named, KNOWN)
