"""Follows the SPIRE agent of this node: a program of its own, for as long as the evaluator runs.

The agent sends an SVID at once, and another whenever it has renewed it (at half its life). While it
is away the last one stays in use, until it ends by itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import grpc

from engine.again import for_ever
from engine.settings import Settings
from engine.spire.messages import METADATA, METHOD, REQUEST, MessageError, given_in
from engine.spire.status import write_problem
from engine.spire.store import store
from engine.tls import SvidError

# A call that lived so long is made anew, in case its agent hangs: seconds.
_ASK_AGAIN = 600.0
# A registration is seen by the agent some seconds after it was made.
_SHORTEST, _LONGEST = 0.2, 5.0
_MESSAGE_LIMIT = 4 << 20

_log = logging.getLogger(__name__)


class AgentError(Exception):
    """The agent gives no SVID; the message is a sentence. ``over`` if the call was just too old."""

    def __init__(self, message: str, *, over: bool = False) -> None:
        """Keep both."""
        self.over = over
        super().__init__(message)


class Follower:
    """Takes what an agent gives. ``step`` makes one call, until it ends."""

    def __init__(self, socket: Path, folder: Path, state: Path) -> None:
        """Nothing is asked before ``step``; SVIDs go to ``folder``, what is wrong to ``state``."""
        self._socket = socket
        self._folder = folder
        self._state = state
        self._spiffe = ""
        self._problem: str | None = ""

    def step(self) -> None:
        """Ask, and take each SVID that comes.

        Raises:
            AgentError: when no more come.
            MessageError: if something else came.
            SvidError: if one can't be used; those before it are in use.
        """
        for message in messages(self._socket):
            svids = given_in(message)
            if not svids:
                raise MessageError("the agent sent a response without any SVID")
            store(self._folder, svids[0])
            self._say_who(svids[0].spiffe, len(svids))
            self.say(None)

    def say(self, problem: str | None) -> None:
        """Leave what is wrong for health, and say it once."""
        if problem == self._problem:
            return
        if problem is not None:
            _log.warning("no SVID comes: %s", problem)
        try:
            write_problem(self._state, problem)
        except OSError as error:
            _log.error("health is not told: %s", error)
        else:
            self._problem = problem

    def _say_who(self, spiffe: str, count: int) -> None:
        _log.info("the agent gave an SVID of %s", spiffe)
        if count > 1 and spiffe != self._spiffe:
            _log.warning("the agent gave %d SVIDs: the first is used", count)
        self._spiffe = spiffe


def messages(socket: Path) -> Iterator[bytes]:
    """The agent's responses, as they come.

    Raises:
        AgentError: when no more come.
    """
    options = [("grpc.max_receive_message_length", _MESSAGE_LIMIT)]
    with grpc.insecure_channel(f"unix:{socket}", options) as channel:
        call = channel.unary_stream(METHOD, _as_is, _as_is)
        try:
            yield from call(REQUEST, timeout=_ASK_AGAIN, metadata=METADATA)
        except grpc.RpcError as error:
            raise _reason(error, socket) from None
    raise AgentError(f"the agent at {socket} ended the call")


def _as_is(message: bytes) -> bytes:
    return message


def _reason(error: grpc.RpcError, socket: Path) -> AgentError:
    """What an error means for whoever runs the evaluator."""
    code, details = error.code(), error.details()
    match code:
        case grpc.StatusCode.PERMISSION_DENIED:
            return AgentError(
                f"the agent at {socket} knows no registration of this process ({details}): the "
                "evaluator has to be a service of the policy, with this pod's labels, namespace "
                "and service account, and the agent needs some seconds to hear of it"
            )
        case grpc.StatusCode.UNAVAILABLE:
            return AgentError(f"no agent answers at {socket}: is it running, and mounted here?")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return AgentError(f"the agent at {socket} sent nothing of late", over=True)
        case _:
            return AgentError(f"the agent at {socket} answered {code.name}: {details}")


def follow(follower: Follower, sleep: Callable[[float], None] = time.sleep) -> NoReturn:
    """Follow the agent for ever; what breaks is tried again, at longer intervals."""

    def step() -> bool:
        try:
            follower.step()
        except AgentError as error:
            if not error.over:
                follower.say(str(error))
        except (MessageError, SvidError) as error:
            follower.say(str(error))
        return False  # a call that ends is only good if it was long

    for_ever(step, _SHORTEST, _LONGEST, sleep)


def run(settings: Settings) -> int:
    """Keep the evaluator's SVID until the process is ended."""
    socket, folder = settings.spire_socket, settings.svid_path
    assert socket is not None  # noqa: S101 - started with one alone
    assert folder is not None  # noqa: S101 - goes with it
    follow(Follower(socket, folder, settings.state_path))
