"""HTTP/2 as nobody should speak it: frames by hand, over plain TCP."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import ngh2

from engine.envoy.calls import CHECK, framed
from tests.engine.samples import DB
from tests.engine.sidecar import question

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8

Pairs = Iterable[tuple[str, str]]
Frame = tuple[int, int, int, bytes]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """One frame, its length as it is."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def block(pairs: Pairs) -> bytes:
    """A block of headers that no table remembers (RFC 7541, 6.2.2); texts up to 126 bytes."""
    texts = ((name.encode(), value.encode()) for name, value in pairs)
    return b"".join(
        b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in texts
    )


def call(path: str = CHECK, **others: str) -> list[tuple[str, str]]:
    """The headers of a call; underscores in names stand for dashes, ``pseudo_`` for a colon."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "evaluator",
        "content-type": "application/grpc",
        "te": "trailers",
        "zt-destination": DB,
        "zt-port": "5432",
    }
    for name, value in others.items():
        fields[name.replace("pseudo_", ":").replace("_", "-")] = value
    return list(fields.items())


def opened(stream: int, pairs: Pairs | None = None, flags: int = END_HEADERS) -> bytes:
    """HEADERS of a call."""
    return frame(HEADERS, flags, stream, block(pairs or call()))


def asked(stream: int) -> bytes:
    """A whole Check."""
    message = framed(question().SerializeToString())
    return opened(stream) + frame(DATA, END_STREAM, stream, message)


@dataclass
class Peer:
    """A connection whose other end is the evaluator."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heard: list[Frame] = field(default_factory=list)
    closed: bool = False

    async def say(self, *pieces: bytes) -> None:
        """Send; a connection that ends meanwhile is no error of ours."""
        try:
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()
        except ConnectionError:
            pass

    async def listen(self, seconds: float = 5.0) -> Frame | None:
        """The next frame; ``None`` if the connection ended, or nothing came."""
        try:
            async with asyncio.timeout(seconds):
                head = await self.reader.readexactly(9)
                payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        except TimeoutError:
            return None
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed = True
            return None
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        self.heard.append((kind, flags, stream, payload))
        return self.heard[-1]

    async def until(self, kind: int, stream: int | None = None) -> Frame | None:
        """The next frame of a kind."""
        while (found := await self.listen()) is not None:
            if found[0] == kind and stream in (None, found[2]):
                return found
        return None

    async def ended(self) -> int | None:
        """Wait for the connection's end; the code of the GOAWAY before it, if there was one."""
        while await self.listen() is not None:
            pass
        codes = [int.from_bytes(heard[3][4:8], "big") for heard in self.heard if heard[0] == GOAWAY]
        return codes[-1] if codes else None


@asynccontextmanager
async def connected(target: str, *, greeted: bool = True) -> AsyncIterator[Peer]:
    """A peer; ``greeted``: preface and settings have been sent."""
    host, _, port = target.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    peer = Peer(reader, writer)
    try:
        if greeted:
            await peer.say(PREFACE, frame(SETTINGS))
        yield peer
    finally:
        writer.close()


class Client:
    """A client that keeps to the rules of HTTP/2, whatever it sends within them."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.http = ngh2.Connection(ngh2.Role.CLIENT)
        self.http.initiate_connection()
        self.answers: dict[int, dict[str, str]] = {}
        self.ended: set[int] = set()
        self.goaways: list[int] = []

    async def open(self, pairs: Pairs, *pieces: bytes, end: bool = True) -> int:
        """Send a call; its stream."""
        headers = [(name.encode(), value.encode()) for name, value in pairs]
        stream = self.http.send_request(headers, end_stream=end and not pieces)
        for piece in pieces:
            self.http.send_data(stream, piece)
        if end and pieces:
            self.http.end_stream(stream)
        await self.flush()
        return stream

    async def flush(self) -> None:
        await self.peer.say(self.http.data_to_send())

    async def answer(self, stream: int) -> dict[str, str]:
        """Headers and trailers of a call, once it has ended; empty if the connection did."""
        async with asyncio.timeout(5):
            while stream not in self.ended and await self.read():
                pass
        return self.answers.get(stream, {})

    async def read_some(self) -> None:
        """Take in what comes within a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                while await self.read():
                    pass

    async def read(self) -> bool:
        """Take in what has come; whether the connection goes on."""
        data = await self.peer.reader.read(1 << 16)
        if data:
            self.http.receive_data(data)
        for event in self.http.events():
            if isinstance(event, ngh2.ResponseReceived | ngh2.TrailersReceived):
                found = self.answers.setdefault(event.stream_id, {})
                found.update((name.decode(), value.decode()) for name, value in event.headers)
            elif isinstance(event, ngh2.StreamClosed):
                self.ended.add(event.stream_id)
            elif isinstance(event, ngh2.GoAwayReceived):
                self.goaways.append(event.error_code)
        await self.flush()
        return bool(data)


@asynccontextmanager
async def client(target: str) -> AsyncIterator[Client]:
    async with connected(target, greeted=False) as peer:
        made = Client(peer)
        await made.flush()
        yield made


GREETING = PREFACE + frame(SETTINGS)
MESSAGE = framed(question().SerializeToString())


def setting(identifier: int, value: int) -> bytes:
    return frame(SETTINGS, payload=struct.pack(">HI", identifier, value))


def window(increment: int, stream: int = 0) -> bytes:
    return frame(WINDOW, stream=stream, payload=struct.pack(">I", increment))
