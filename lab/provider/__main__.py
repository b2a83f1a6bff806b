"""The process of ``lab.provider.serve.serving``, which says where warnings go, in JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lab.provider.serve import serve


def main(text: str) -> None:
    """Serve until standard input ends."""
    asked = json.loads(text)
    serve(sys.stdout.buffer, sys.stdin.buffer, Path(asked["warnings"]), strict=asked["strict"])


if __name__ == "__main__":
    main(sys.argv[1])
