"""The command line, ``zt``. Exit codes: 0 good, 1 findings, changes or denied, 2 misuse."""

from zt.cli.app import main, zt

__all__ = ["main", "zt"]
