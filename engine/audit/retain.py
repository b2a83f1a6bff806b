"""Drops the days that need no longer be kept: ``python -m engine.audit.retain``.

How long that is the database itself knows; a younger day it would refuse. A drop that has to wait
for readers gives up, and is tried again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors

from engine.audit.logins import LoginError, read_dsn, sentence
from engine.audit.migrate import MigrationError, connect

_ATTEMPTS, _PAUSE = 20, 30.0
_MISUSE, _FAILED = 2, 1
_DROP = """
SELECT zt_audit.drop_before((now() AT TIME ZONE 'UTC')::date - zt_audit.retention_days())
"""


def drop(
    connection: psycopg.Connection[Any],
    attempts: int = _ATTEMPTS,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Drop what is old; the tables that went.

    Raises:
        psycopg.Error: if the database refuses, or readers hold a day for too long.
    """
    for left in reversed(range(attempts)):
        try:
            return [row[0] for row in connection.execute(_DROP)]
        except errors.LockNotAvailable:
            if not left:
                raise
            sleep(_PAUSE)
    return []


def main(arguments: Sequence[str]) -> int:
    """Drop what is old; 2 if it is told wrongly, 1 if the database refuses."""
    parser = argparse.ArgumentParser("engine.audit.retain")
    parser.add_argument("--keeper", type=Path, required=True, help="file of the DSN")
    try:
        with closing(connect(read_dsn(parser.parse_args(arguments).keeper))) as connection:
            gone = drop(connection)
    except LoginError as error:
        _say(str(error))
        return _MISUSE
    except MigrationError as error:
        _say(str(error))
        return _FAILED
    except psycopg.Error as error:
        _say(f"nothing was dropped: {sentence(error)}")
        return _FAILED
    _say(f"dropped {', '.join(gone)}" if gone else "nothing is old enough to be dropped")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"engine.audit.retain: {text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
