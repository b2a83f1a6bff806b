"""Programs that tests start inside namespaces of their own; by themselves, with nothing of ours.

``python inside.py serve <port>=<word>...``: answers each connection with the port's word.
``python inside.py dns <address>``: answers every question on 127.0.0.1:53 with that address.
``python inside.py webhook <port> <folder>``: serves reviews by ``injection.json`` with TLS, and
writes to ``calls`` whether each had a patch.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_HEADER = 12


def serve(*words: str) -> None:
    for pair in words:
        port, word = pair.split("=")
        listening = socket.create_server(
            ("", int(port)), family=socket.AF_INET6, dualstack_ipv6=True
        )
        threading.Thread(target=_answer, args=(listening, word.encode()), daemon=True).start()
    print("ready", flush=True)  # noqa: T201 - a test waits for it
    threading.Event().wait()


def _answer(listening: socket.socket, word: bytes) -> None:
    while True:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(word)


def dns(address: str) -> None:
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("127.0.0.1", 53))
    print("ready", flush=True)  # noqa: T201 - a test waits for it
    while True:
        asked, sender = listening.recvfrom(512)
        end = asked.index(b"\0", _HEADER) + 5
        question, kind = asked[_HEADER:end], asked[end - 4 : end - 2]
        record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04" + socket.inet_aton(address)
        answers = [record] if kind == b"\0\x01" else []  # A alone
        counts = b"\0\x01" + len(answers).to_bytes(2, "big") + b"\0\0\0\0"
        listening.sendto(asked[:2] + b"\x81\x80" + counts + question + b"".join(answers), sender)


def webhook(port: str, where: str) -> None:
    from engine.admission.review import review  # noqa: PLC0415 - where it is needed
    from zt.inject import Images  # noqa: PLC0415
    from zt.inject.needs import from_text  # noqa: PLC0415

    folder = Path(where)
    injection = from_text((folder / "injection.json").read_bytes())
    images = Images("example.com/envoy:1", "example.com/gateway:1")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            answer = review(body, injection, images)
            with (folder / "calls").open("a") as calls:
                calls.write(f"{b'JSONPatch' in answer}\n")
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", flush=True)  # noqa: T201 - a test waits for it
    server.serve_forever()


if __name__ == "__main__":
    programs: dict[str, Callable[..., None]] = {"serve": serve, "dns": dns, "webhook": webhook}
    programs[sys.argv[1]](*sys.argv[2:])
