"""Records that the API makes, and the wait until they are safe."""

from __future__ import annotations

import asyncio
from time import time_ns
from uuid import UUID

from engine.audit.outcome import Outcome, encode, record_id
from engine.decider import Decider


async def recorded(decider: Decider, outcome: Outcome) -> UUID | None:
    """Record an outcome; its ID once it is as safe as is asked for, ``None`` if it can't be."""
    try:
        sequence = decider.spool.append(encode(outcome), time_ns() // 1000, 0)
    except OSError as error:
        decider.not_appended(error)
        return None
    if not await is_safe(decider, sequence):
        return None
    return record_id(decider.spool.writer, sequence)


async def is_safe(decider: Decider, sequence: int) -> bool:
    """Wait until a record is as safe as is asked for; whether it is."""
    if decider.durability.immediate:
        return True
    loop = asyncio.get_running_loop()
    settled: asyncio.Future[bool] = loop.create_future()

    def settle(safe: bool) -> None:  # noqa: FBT001 - durability tells it so
        if not settled.done():
            settled.set_result(safe)

    decider.durability.when(sequence, settle)
    return await settled
