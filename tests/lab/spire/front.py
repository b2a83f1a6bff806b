"""TLS in front of a PostgreSQL that was built without: the one of the Python package is.

It answers PostgreSQL's SSLRequest, then hands everything on to 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import sys
from pathlib import Path
from threading import Thread

PORT = 5432
# Length and code of the message by which a client asks for TLS.
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_CHUNK = 1 << 16


def serve(address: str, folder: Path) -> None:
    """Serve for ever, with the certificate ``tls.crt`` of a folder."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    with socket.create_server((address, PORT)) as listener:
        while True:
            client, _ = listener.accept()
            Thread(target=_handle, args=(client, context), daemon=True).start()


def _handle(client: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError), client:
        if client.recv(len(_SSL_REQUEST), socket.MSG_WAITALL) != _SSL_REQUEST:
            return
        client.sendall(b"S")
        with (
            context.wrap_socket(client, server_side=True) as secured,
            socket.create_connection(("127.0.0.1", PORT)) as database,
        ):
            back = Thread(target=_copy, args=(database, secured), daemon=True)
            back.start()
            _copy(secured, database)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
