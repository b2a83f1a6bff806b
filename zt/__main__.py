"""``python -m zt``: the command line, where ``zt`` itself is not on the path."""

from zt.cli import main

main()
