"""The fixtures of the engine's quick tests."""

from tests.engine.conftest import anyio_backend, database, postgres, write_policy

__all__ = ["anyio_backend", "database", "postgres", "write_policy"]
