"""Where keys live: a small protocol, and who speaks it."""

from gateway.keys.opening import add_arguments, open_store, store_of
from gateway.keys.store import (
    ForbiddenError,
    KeyStore,
    KeyStoreError,
    MalformedError,
    MissingError,
    SealedError,
    UnreachableError,
    UntrustedError,
    Version,
)

__all__ = [
    "ForbiddenError",
    "KeyStore",
    "KeyStoreError",
    "MalformedError",
    "MissingError",
    "SealedError",
    "UnreachableError",
    "UntrustedError",
    "Version",
    "add_arguments",
    "open_store",
    "store_of",
]
