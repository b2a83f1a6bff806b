"""How many requests of a kind are served at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.http.problems import Refused, busy


class Turns:
    """So many places; who waits longer than ``patience`` seconds for one is told to ask again."""

    def __init__(self, places: int, patience: float) -> None:
        """All places are free."""
        self._places = asyncio.Semaphore(places)
        self._patience = patience

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Take a place while something is served.

        Raises:
            Refused: if there is none.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._places.acquire()
        except TimeoutError:
            raise Refused(busy()) from None
        try:
            yield
        finally:
            self._places.release()
