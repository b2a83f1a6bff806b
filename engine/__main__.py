"""``python -m engine``: the evaluator, told everything by its environment."""

from __future__ import annotations

import logging
import os
import sys
import time

from engine.settings import SettingsError, from_environment
from engine.sockets import ListenError
from engine.supervisor import StateError, supervise
from engine.tls import SvidError

_MISUSE = 2


def main() -> int:
    """Run until SIGTERM or SIGINT; 2 if it can't be run as it was told."""
    _log_to_stderr()
    try:
        supervise(from_environment(os.environ))
    except (SettingsError, SvidError, ListenError, StateError) as error:
        sys.stderr.write(f"engine: {error}\n")
        return _MISUSE
    return 0


def _log_to_stderr() -> None:
    """One line a message, in UTC."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
