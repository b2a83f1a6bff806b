"""The fixtures of the engine's quick tests."""

from tests.engine.conftest import (
    anyio_backend,
    authority,
    database,
    desk,
    postgres,
    write_policy,
)

__all__ = ["anyio_backend", "authority", "database", "desk", "postgres", "write_policy"]
