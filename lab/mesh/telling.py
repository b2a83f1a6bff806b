"""What a supervisor tells whoever started it, a line of JSON each, until everything is up."""

from __future__ import annotations

import json
import os
import sys

from lab.mesh.processes import Children


def tell(what: str, value: object) -> None:
    """Tell whoever called.

    Raises:
        BrokenPipeError: if it is gone; what nobody waits for is not brought up.
    """
    print(json.dumps({what: value}), flush=True)  # noqa: T201 - the protocol


def tell_ready(children: Children) -> None:
    """Let go of whoever called: from here on nobody listens."""
    children.facts["ready"] = True
    children.save()
    tell("ready", children.facts)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
