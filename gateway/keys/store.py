"""The protocol of a key store, and what can go wrong with one.

A secret is a mapping of names to texts, and has versions. What an error says never has any of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


class KeyStoreError(Exception):
    """A store did not do what it was asked; the message is a sentence."""


class SealedError(KeyStoreError):
    """Its keys are locked until people unlock them."""


class UnreachableError(KeyStoreError):
    """It does not answer, or says that it can't now."""


class UntrustedError(UnreachableError):
    """Who answers can't prove to be it, which no waiting mends."""


class ForbiddenError(KeyStoreError):
    """Who asks may not."""


class MissingError(KeyStoreError):
    """There is no such secret, version or field."""


class MalformedError(KeyStoreError):
    """What it answers, or what it has, is not what it should be."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a secret, counted from 1; ``enabled`` unless it was disabled or destroyed."""

    number: int
    created: datetime
    enabled: bool


class KeyStore(Protocol):
    """One project of a store. Every call may raise any ``KeyStoreError``."""

    def read(self, path: str, version: int | None = None) -> Mapping[str, str]:
        """A secret, its newest version unless one is named.

        Raises:
            MissingError: if there is none, or it is disabled.
        """

    def write(self, path: str, value: Mapping[str, str]) -> int:
        """Store a new version, and return its number."""

    def versions(self, path: str) -> tuple[Version, ...]:
        """All versions, the oldest first; none of a secret that there is not."""

    def disable(self, path: str, version: int) -> None:
        """Have a version read by nobody any more; people may undo it."""

    def describe(self, path: str, facts: Mapping[str, str]) -> None:
        """Note what everybody may know of a secret, such as a public key."""

    def description(self, path: str) -> Mapping[str, str]:
        """What was noted, which is read without the right to read the secret."""
