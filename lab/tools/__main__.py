"""Builds programs beforehand: ``python -m lab.tools NAME...``, all of them without a name."""

from __future__ import annotations

import sys

from lab.tools.build import PROGRAMS, ToolError, tool


def main(names: list[str]) -> int:
    """Build what is not there yet; returns the exit code."""
    unknown = [name for name in names if name not in PROGRAMS]
    if unknown:
        sys.stderr.write(f"no program {unknown[0]}: choose from {', '.join(PROGRAMS)}\n")
        return 2
    try:
        for name in names or PROGRAMS:
            sys.stdout.write(f"{tool(name)}\n")
    except ToolError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
