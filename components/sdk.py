"""Where Pulumi's SDK would take longer over a thousand resources than all else does."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from pulumi.runtime import settings
from pulumi.runtime.proto import engine_pb2


class Quiet:
    """The engine, without the SDK's own debug lines.

    There are four for each resource, and the program stands still until the engine has each.
    """

    def __init__(self, engine: Any) -> None:  # noqa: ANN401 - a stub of gRPC
        self._engine = engine

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any call
        return getattr(self._engine, name)

    def Log(self, request: engine_pb2.LogRequest) -> Any:  # noqa: N802, ANN401 - gRPC's
        """Pass on what somebody should see."""
        if request.severity == engine_pb2.DEBUG:
            return None
        return self._engine.Log(request)


def prepare() -> None:
    """Before resources are registered, for the rest of this run of the program."""
    engine = settings.get_engine()
    if engine is not None:
        settings.SETTINGS.engine = Quiet(engine)  # this run's own: a context variable
    # The process of a program ends with it. Where it goes on, it sets the collector running again.
    gc.disable()


async def begin() -> None:
    """After resources are registered: let them begin.

    The SDK waits for the registrations that have begun. If none has, it waits for any output
    instead, and looks at all of them after each answer.
    """
    await asyncio.sleep(0)
