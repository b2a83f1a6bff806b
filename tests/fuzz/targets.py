"""What is fuzzed, and what must hold of it. Started by ``tests.fuzz.check``."""

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import atheris  # type: ignore[import-untyped] # publishes no types

with atheris.instrument_imports(include=["engine"]):
    from engine.envoy.accesslog import Reports
    from engine.envoy.authz import Authorization, response
    from engine.envoy.calls import ACCESS_LOGS, CHECK, PREFIX, CallError, framed
    from engine.envoy.channel import channel_of
    from engine.envoy.connection import Connection
    from engine.envoy.service import Limits, Service

from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse

from tests.engine.envoy.raw import DATA, PREFACE, SETTINGS, asked, call, frame, opened
from tests.engine.samples import CAUTIOUS, DB, NEW, Desk
from tests.engine.sidecar import entry, question
from zt.decide import Verdict

CHANNEL = channel_of({b"zt-destination": DB.encode(), b"zt-port": b"5432"}, DB)
GREETING = PREFACE + frame(SETTINGS)
ANSWER = frame(DATA, 0, 1, response(Verdict.ALLOW, "rule", False))  # noqa: FBT003 - by place


class ErrorLogged(logging.Handler):
    """Fails where an error is logged: the server survives what it did not expect, but says so."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def require_none(self) -> None:
        if self.records:
            raise AssertionError(self.records[0].getMessage()) from (
                self.records[0].exc_info[1] if self.records[0].exc_info else None
            )


# --- Check ----------------------------------------------------------------------------------------


class Checks:
    """One that remembers answers as one that has never been asked."""

    def __init__(self) -> None:
        self._desk = Desk()
        self._experienced = Authorization(self._desk.decider)

    def __call__(self, data: bytes) -> None:
        answers = [
            self._answer(authorization, data)
            for authorization in (self._experienced, Authorization(self._desk.decider))
        ]
        assert answers[0] == answers[1]
        if answers[0] is not None:
            code = CheckResponse.FromString(answers[0][PREFIX.size :]).status.code
            verdicts = [outcome.verdict for outcome in self._desk.outcomes]
            assert verdicts == [Verdict.DENY if code else Verdict.ALLOW] * 2
        self._desk.spool.appended.clear()

    def _answer(self, authorization: Authorization, data: bytes) -> bytes | None:
        try:
            return cast("bytes", authorization.check(data, CHANNEL))
        except CallError:
            return None

    def seeds(self) -> list[bytes]:
        http = question()
        http.attributes.request.http.headers["a"] = "b"
        requests = (
            question(),
            question(CAUTIOUS, certificate="x"),
            question(source="", destination=""),
            question(source_address="::ffff:10.0.0.1"),
            http,
        )
        return [request.SerializeToString() for request in requests]


# --- Access logs ----------------------------------------------------------------------------------


class Logs:
    """Whatever a sidecar reports, it is recorded as refused or not at all."""

    def __init__(self) -> None:
        self._desk = Desk()

    def __call__(self, data: bytes) -> None:
        reports = Reports(self._desk.decider, CHANNEL)
        try:
            reports.take(data)
        except CallError:
            return
        while not reports.record():
            assert not reports.failed
        assert not reports.waiting
        assert {outcome.verdict for outcome in self._desk.outcomes} <= {Verdict.DENY}
        self._desk.spool.appended.clear()

    def seeds(self) -> list[bytes]:
        entries = (
            entry(reason="TLS_error:|268435581:SSL routines:OPENSSL_internal:HTTP_REQUEST"),
            entry(reason="CERTIFICATE_VERIFY_FAILED:certificate has expired"),
            entry(uri=NEW, reason="CERTIFICATE_VERIFY_FAILED:verify cert failed: SAN matcher"),
            entry(uri=None, details="rbac_access_denied_matched_policy[none]"),
            entry(uri=None, details="transport socket timeout was reached"),
        )
        messages = [StreamAccessLogsMessage(tcp_logs={"log_entry": [one]}) for one in entries]
        messages.append(StreamAccessLogsMessage(tcp_logs={"log_entry": entries}))
        return [message.SerializeToString() for message in messages]


# --- HTTP/2 ---------------------------------------------------------------------------------------


class Wire:
    """A transport that leads nowhere."""

    def __init__(self) -> None:
        self.ended = False
        self.written = bytearray()

    def get_extra_info(self, _: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None:
        assert high

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.written += data

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        self.ended = True

    abort = close


class Connections:
    """Whatever one connection sends, in whatever pieces, the next is served."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._desk = Desk()
        self._errors = ErrorLogged()
        logging.getLogger("engine").addHandler(self._errors)
        self._service = self._loop.run_until_complete(self._made())

    def __call__(self, data: bytes) -> None:
        self._loop.run_until_complete(self._serve(data))
        self._desk.spool.appended.clear()

    async def _made(self) -> Service:
        return Service(self._desk.decider, Limits(), tls=False)

    async def _serve(self, data: bytes) -> None:
        if not data:
            return
        size = data[0] % 251 + 1
        await self._said([data[1:][at : at + size] for at in range(0, len(data) - 1, size)])
        good = await self._said([GREETING + asked(1)])
        assert not good.ended
        assert ANSWER in good.written
        self._errors.require_none()

    async def _said(self, pieces: list[bytes]) -> Wire:
        wire = Wire()
        connection = Connection(self._service)
        connection.connection_made(cast("Any", wire))
        for piece in pieces:
            connection.data_received(piece)
        for _ in range(3):
            await asyncio.sleep(0)
        connection.sweep()
        connection.leave()
        connection.end_streams()
        connection.connection_lost(None)
        self._service.sweep()
        return wire

    def seeds(self) -> list[bytes]:
        report = StreamAccessLogsMessage(tcp_logs={"log_entry": [entry(uri=None)]})
        message = framed(report.SerializeToString())
        said = (
            GREETING + asked(1),
            GREETING + asked(1) + asked(3) + frame(6, payload=bytes(8)),
            GREETING + opened(1) + frame(DATA, 0, 1, framed(b"")[:3]) + frame(DATA, 1, 1, b"\0\0"),
            GREETING + opened(1, call(ACCESS_LOGS)) + frame(DATA, 0, 1, message * 3),
            GREETING + opened(1, call(CHECK, pseudo_method="GET")) + frame(3, 0, 1, bytes(4)),
            GREETING + opened(1, flags=0) + frame(9, 4, 1) + frame(8, 0, 0, b"\0\0\0\1"),
            GREETING
            + frame(SETTINGS, payload=b"\0\4\0\0\0\0")
            + asked(1)
            + frame(7, 0, 0, bytes(8)),
        )
        return [bytes([piece]) + one for one in said for piece in (250, 6)]


def main(arguments: list[str]) -> None:
    """``TARGET CORPUS`` and what libFuzzer takes."""
    program, name, corpus, *options = arguments
    targets: dict[str, Callable[[], Any]] = {"check": Checks, "log": Logs, "http2": Connections}
    target = targets[name]()
    folder = Path(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (folder / f"seed-{number}").write_bytes(seed)
    atheris.Setup([program, *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
