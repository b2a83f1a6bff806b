"""Where the book of a tunnel is kept: in KMS, as one secret, so that each step is there whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.keys import KeyStore, MissingError
from gateway.tunnel.book import Book, book_of

BOOK, PUBLIC, CREATED = "book", "publicKey", "created"


class Store(Protocol):
    """Keeps a book."""

    def load(self) -> Book | None:
        """The book as it was kept last; ``None`` if there never was one.

        Raises:
            KeyStoreError: if it can't be had.
            TunnelError: if it is none.
        """

    def save(self, book: Book) -> None:
        """Keep a book.

        Raises:
            KeyStoreError: if that can't be done.
        """

    def forget(self) -> None:
        """Let go of all that was kept before the book of now: its keys are used no more.

        Raises:
            KeyStoreError: if that can't be done.
        """


@dataclass
class InKms:
    """A secret of a project of KMS."""

    keys: KeyStore
    path: str

    def load(self) -> Book | None:
        """See ``Store``."""
        try:
            return book_in(self.keys.read(self.path))
        except MissingError:
            return None

    def save(self, book: Book) -> None:
        """See ``Store``."""
        self.keys.write(self.path, secret_of(book))
        key = book.keys[book.sending]
        self.keys.describe(self.path, {PUBLIC: key.public, CREATED: f"{key.created:.0f}"})

    def forget(self) -> None:
        """See ``Store``."""
        *old, _ = self.keys.versions(self.path)
        for version in old:
            if version.enabled:
                self.keys.disable(self.path, version.number)


def secret_of(book: Book) -> dict[str, str]:
    """The secret's fields. The public key is there for people."""
    return {BOOK: book.text(), PUBLIC: book.keys[book.lane].public}


def book_in(secret: Mapping[str, str]) -> Book:
    """The book of a secret.

    Raises:
        TunnelError: if it has none.
    """
    return book_of(secret.get(BOOK, ""))


def delivered(folder: Path) -> Book | None:
    """The book that the init step left in memory, which is taken away at once.

    Raises:
        TunnelError: if it is none.
    """
    path = folder / BOOK
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    for name in _files(folder):
        with suppress(FileNotFoundError):
            name.unlink()
    return book_of(text)


def _files(folder: Path) -> Sequence[Path]:
    return [folder / BOOK, folder / PUBLIC]
