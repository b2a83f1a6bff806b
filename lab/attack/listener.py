"""What is planted into a target's pod: it answers on ports that no rule declares.

``python -S listener.py TCP UDP...``: one TCP port, and UDP ports. Standard library alone.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys

_ANSWER = b"here I am\n"
_LONGEST = 4096


def main(arguments: list[str]) -> None:
    """Answer whoever comes, until the input ends."""
    tcp, *udp = map(int, arguments)
    ends = selectors.DefaultSelector()
    ends.register(socket.create_server(("0.0.0.0", tcp)), selectors.EVENT_READ)  # noqa: S104
    for port in udp:
        end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        end.bind(("0.0.0.0", port))  # noqa: S104
        ends.register(end, selectors.EVENT_READ)
    ends.register(sys.stdin, selectors.EVENT_READ)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        for key, _ in ends.select():
            if key.fileobj is sys.stdin:
                return
            _answer(key.fileobj)  # type: ignore[arg-type]


def _answer(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        if end.type == socket.SOCK_DGRAM:
            _, address = end.recvfrom(_LONGEST)
            end.sendto(_ANSWER, address)
            return
        connection, _ = end.accept()
        with connection:
            connection.sendall(_ANSWER)


if __name__ == "__main__":
    main(sys.argv[1:])
