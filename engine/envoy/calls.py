"""What every gRPC call has in common, whatever carries it: messages, their frames, and refusals."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

CHECK = "/envoy.service.auth.v3.Authorization/Check"
ACCESS_LOGS = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
# Bytes of one message. A Check is about two thousand, of which most is the peer's certificate.
MESSAGE_LIMIT = 1 << 20
# Seconds between tries to record what a sidecar reported.
RETRY = 1.0

# Compressed or not, and the length of the message that follows.
PREFIX = Struct(">BI")


class Code(IntEnum):
    """gRPC status codes that we give."""

    OK = 0
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class CallError(Exception):
    """A call is refused; the message is for whoever reads the caller's log, in ASCII."""

    def __init__(self, code: Code, message: str) -> None:
        """Refuse with a status."""
        super().__init__(message)
        self.code = code
        self.message = message


def framed(message: bytes) -> bytes:
    """A message as it goes over HTTP/2."""
    return PREFIX.pack(0, len(message)) + message


class Inbox:
    """The messages of one stream, as its pieces come in."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        """Nothing has come."""
        self._buffer = bytearray()

    def __len__(self) -> int:
        """Bytes of what is not complete, or not taken."""
        return len(self._buffer)

    def add(self, piece: bytes) -> None:
        """Take a piece in."""
        self._buffer += piece

    def next(self) -> bytes | None:
        """The next complete message, if there is one.

        Raises:
            CallError: if it is compressed, or too long.
        """
        if len(self._buffer) < PREFIX.size:
            return None
        compressed, length = PREFIX.unpack_from(self._buffer)
        if compressed:
            raise CallError(Code.UNIMPLEMENTED, "messages are taken without compression")
        if length > MESSAGE_LIMIT:
            raise CallError(Code.RESOURCE_EXHAUSTED, f"messages have {MESSAGE_LIMIT} bytes at most")
        end = PREFIX.size + length
        if len(self._buffer) < end:
            return None
        message = bytes(self._buffer[PREFIX.size : end])
        del self._buffer[:end]
        return message
