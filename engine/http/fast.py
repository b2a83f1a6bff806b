"""The API's port: questions are answered here, as they are parsed; the rest is the application's.

A question costs a parse, a lookup and an append, some 20 microseconds; the layers of an ASGI
application would cost five times that. So this protocol takes what begins with ``POST
/v1/evaluate`` for itself and leaves everything else to uvicorn's protocol, which it extends. Both
parse HTTP with httptools.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from engine.http.answers import Answerer, Pending, problem_response
from engine.http.callers import EXTENSION, LOCAL, NOBODY
from engine.http.door import Door
from engine.http.problems import MAX_BODY, Problem, too_large, too_slow
from engine.tls import peer_of

# A request is to be there, and an idle connection to be used again, within these seconds.
REQUEST_PATIENCE = 20.0
IDLE_PATIENCE = 75.0

_ONE, _BATCH = b"/v1/evaluate", b"/v1/evaluate:batch"
_BEGINNINGS = tuple(b"POST " + url + b" HTTP/1." for url in (_ONE, _BATCH))
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_EXPECT = b"\r\nexpect: 100-continue"
# Beginnings of questions that httptools has parsed: equal bytes mean the same again. Callers use
# few; whoever makes up more gains nothing.
_HEADS = 1 << 10
_LONGEST_HEAD = 1 << 11
# Responses that wait for their records to be safe, before no more questions are read.
_MOST_WAITING = 256
_MALFORMED = Problem(400, "malformed", "The request is not HTTP/1.1 as it should be")


class Front(HttpToolsProtocol):
    """One connection."""

    def __init__(self, answerer: Answerer, door: Door | None, **uvicorn: Any) -> None:  # noqa: ANN401
        """Answer with an answerer; without TLS there is no ``door``. The rest is uvicorn's."""
        super().__init__(**uvicorn)
        self.answerer = answerer
        self.caller = NOBODY
        # For ``sweep``: when data last came, and when a request began that is not complete.
        self.active = self.loop.time()
        self.began = 0.0
        self._door = door
        self._address = ""
        # The policy that let the caller in.
        self._snapshot: object = None
        # Seconds since the epoch at which the caller's certificate ends.
        self._until = math.inf
        self._questions = _Questions(self)
        self._heads = answerer.heads
        self._asking = False
        self._ready: list[bytes] = []
        self._waiting: deque[bytes | Pending] = deque()
        self._held = b""
        self._closing = False

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - uvicorn names it narrower
        """Note who calls."""
        super().connection_made(transport)
        if self._door is None:
            self.caller = LOCAL
            return
        peer = peer_of(transport.get_extra_info("ssl_object"))
        self._until = peer.until
        self._address = str(transport.get_extra_info("peername")[0])
        self._snapshot = self._door.snapshot
        self.caller = self._door.admit(peer.spiffe or None, self._address)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is left to be answered."""
        super().connection_lost(exc)
        self._closing = True
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        """Give data to whom it is for: the questions' parser, or uvicorn's."""
        self.active = self.loop.time()
        if self._is_free():
            end = data.find(b"\r\n\r\n") + 4
            if self._heads.get(data[:end]) == len(data) - end:
                self._reply(data[end:])
                return
        if self._asking:
            self._ask(data)
        elif self._waiting and (self._held or not data.startswith(_BEGINNINGS)):
            # What the application answers comes after what is waiting here.
            self._held += data
            self.transport.pause_reading()
        elif data.startswith(_BEGINNINGS) and self._application_rests():
            self._unset_keepalive_if_required()
            self._ask(data)
        elif not self._closing:
            super().data_received(data)

    def _is_free(self) -> bool:
        """Whether nothing is asked, nor anything left to be answered."""
        if self._asking or self._waiting or self._closing or self.began or self.pipeline:
            return False
        cycle: RequestResponseCycle | None = self.cycle
        return self.timeout_keep_alive_task is None and (cycle is None or cycle.response_complete)

    def _application_rests(self) -> bool:
        """Whether uvicorn's parser is between requests and its application has answered all."""
        if self.began or self.pipeline:
            return False
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def on_message_begin(self) -> None:
        """A request for the application begins; it is told who calls."""
        super().on_message_begin()
        self.began = self.loop.time()
        self.scope["extensions"] = {EXTENSION: self.caller}  # type: ignore[dict-item] # ours

    def on_message_complete(self) -> None:
        """A request for the application is there."""
        self.began = 0.0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Who does not read its answers is not asked for more questions."""
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The answers have been read."""
        super().resume_writing()
        if not self._closing and len(self._waiting) <= _MOST_WAITING:
            self.transport.resume_reading()

    def shutdown(self) -> None:
        """Close, once all that was asked has been answered."""
        self._closing = True
        if not self._waiting and not self._asking:
            super().shutdown()

    def give_up(self) -> None:
        """Close a connection whose request does not come to its end."""
        if self._asking:
            self._waiting.append(problem_response(too_slow(REQUEST_PATIENCE)))
            self._asking, self._closing = False, True
            self._send()
        self.transport.close()

    def is_over(self, now: float) -> bool:
        """Whether nothing has been asked for long, or the caller's time here has ended.

        It has when its certificate has, or when the policy is another and says otherwise of it.
        """
        if self._waiting or not self._application_rests():
            return False
        idle = now - self.active > IDLE_PATIENCE
        return idle or time.time() > self._until or not self._is_admitted()

    def _is_admitted(self) -> bool:
        door = self._door
        if door is None or door.snapshot is self._snapshot:
            return True
        self._snapshot = door.snapshot
        return door.still_admits(self.caller, self._address)

    # --- Questions --------------------------------------------------------------------------------

    def _ask(self, data: bytes) -> None:
        """Parse questions, and answer those that are complete in one write."""
        begins = not self._asking
        end = data.find(b"\r\n\r\n") + 4
        problem = self._questions.feed(data)
        if self._questions.incomplete or problem or self._questions.last:
            self._leave_open(data, problem)
        elif begins and end <= _LONGEST_HEAD and self._questions.was(_ONE, data[end:]):
            self._note(data[:end], len(data) - end)
        self._write()

    def _reply(self, body: bytes) -> None:
        """Answer a question that came alone, with a beginning that has been parsed before."""
        response = self.answerer.one(body, self.caller, self._send)
        if response.__class__ is bytes:
            self.transport.write(response)
        else:
            self._waiting.append(response)
            self._send()

    def _note(self, head: bytes, length: int) -> None:
        """Remember the beginning of a question, and how long its body is."""
        if len(self._heads) >= _HEADS:
            self._heads.clear()
        self._heads[head] = length

    def _write(self) -> None:
        """Write what is there, in the order of the questions."""
        ready = self._ready
        if ready:
            self.transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
            ready.clear()
        if self._waiting or self._closing:
            self._send()

    def _leave_open(self, data: bytes, problem: Problem | None) -> None:
        """Parsing ended within a question, at something that is none, or at the last one."""
        self._asking = problem is None and self._questions.incomplete
        self.began = self.began or self.active
        if problem is not None:
            self._say(problem_response(problem))
        if problem is not None or self._questions.last:
            self._closing = True
            self.transport.pause_reading()
        elif _EXPECT in data.lower():
            self._say(_CONTINUE)

    def answer(self, url: bytes, body: bytes) -> None:
        """Answer a question: at once, or when its record is safe."""
        self._asking = False
        self.began = 0.0
        ask = self.answerer.batch if url == _BATCH else self.answerer.one
        self._say(ask(body, self.caller, self._send))

    def _say(self, response: bytes | Pending) -> None:
        """Have a response written after those before it."""
        if response.__class__ is bytes and not self._waiting:
            self._ready.append(response)
        else:
            self._waiting.append(response)

    def _send(self) -> None:
        """Write what waited and is there, in the order of the questions."""
        if self.transport.is_closing():
            return
        self.transport.write(b"".join(self._settled()))
        if len(self._waiting) > _MOST_WAITING:
            self.transport.pause_reading()
        elif not self._waiting:
            self._rest()

    def _settled(self) -> Iterator[bytes]:
        waiting = self._waiting
        while waiting:
            first = waiting[0]
            response = first.response if isinstance(first, Pending) else first
            if response is None:
                return
            waiting.popleft()
            yield response

    def _rest(self) -> None:
        """Everything is answered: close, or go on with what was held back."""
        if self._closing:
            if not self._asking:
                self.transport.close()
            return
        held, self._held = self._held, b""
        self.transport.resume_reading()
        if held:
            self.data_received(held)


class _Questions:
    """What httptools calls, for one connection; without ``on_header``, which would cost most."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body = b""
        self._too_large = False
        self.incomplete = False
        self.last = False

    def feed(self, data: bytes) -> Problem | None:
        """Parse, and have answered what is complete; a problem ends the connection."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return None if self.last else too_large() if self._too_large else _MALFORMED
        return None

    def was(self, url: bytes, body: bytes) -> bool:
        """Whether the last question, which is complete, was this alone, as it was sent."""
        return self._url == url and self._body == body != b""

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = self._body = b""
        self.incomplete = True

    def on_url(self, url: bytes) -> None:
        """A part of the address; another than ours can stand behind a pipelined question only.

        Such a request is left unanswered and the connection ends: its sender asks again (RFC 9112,
        section 9.3.2).
        """
        self._url += url

    def on_headers_complete(self) -> None:
        """All but the body is there."""
        if self._url not in (_ONE, _BATCH) or self._parser.get_method() != b"POST":
            self.last = True
            self.incomplete = False
            raise ValueError("a request for the application behind a question")

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body = self._body + body if self._body else body
        if len(self._body) > MAX_BODY:
            self._too_large = True
            raise ValueError("too large")

    def on_message_complete(self) -> None:
        """A question is there."""
        self.incomplete = False
        self.last = not self._parser.should_keep_alive()
        self._front.answer(self._url, self._body)


def sweep(connections: Iterable[Any], now: float) -> None:
    """Close connections that are idle for too long, never finish what they ask, or have expired."""
    for connection in list(connections):
        if not isinstance(connection, Front):
            continue
        if connection.began and now - connection.began > REQUEST_PATIENCE:
            connection.give_up()
        elif connection.is_over(now):
            connection.transport.close()
