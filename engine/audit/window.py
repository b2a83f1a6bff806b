"""A stretch of a segment, mapped into memory: there an append costs no system call.

What is stored in it is the system's to keep, as what is written is: it survives the process. Every
page is made writable while the window is opened, so that a disk that refuses does so by an error
there and not by a signal later.
"""

from __future__ import annotations

import mmap

WINDOW_BYTES = 1 << 17
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE of Linux 5.14, which Python has no name for
_PAGE = mmap.PAGESIZE


class Window:
    """The mapped stretch; ``memory`` is its content, from ``start`` in the segment."""

    __slots__ = ("memory", "size", "start")

    def __init__(self, descriptor: int, offset: int, end: int) -> None:
        """Map the segment from ``offset`` on, to ``end`` at most.

        Raises:
            OSError: if it can't be mapped, or a page not be written, or this kernel can't tell.
        """
        self.start = offset // _PAGE * _PAGE
        self.size = min(WINDOW_BYTES, end - self.start)
        self.memory = mmap.mmap(descriptor, self.size, offset=self.start)
        try:
            self.memory.madvise(_POPULATE_WRITE)
        except OSError:
            self.memory.close()
            raise

    def close(self) -> None:
        """What was stored stays."""
        self.memory.close()
