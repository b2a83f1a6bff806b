"""Whether there is an SVID to serve with: given as files, or to come from the SPIRE agent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from engine.identity import own_svid
from engine.settings import Settings, Storage
from engine.spire.store import make_folder
from engine.tls import SvidError, SvidFiles


def prepare(settings: Settings) -> None:
    """What is given has to be usable; what the agent is to give needs a folder in memory.

    Raises:
        SvidError: if that is not so.
    """
    if settings.svid_path is None:
        return
    if settings.spire_socket is None:
        SvidFiles(settings.svid_path)
    else:
        make_folder(settings.svid_path, memory=settings.svid_storage is Storage.MEMORY)


def is_usable(folder: Path) -> bool:
    """Whether a folder holds an SVID: one of an earlier run of the container will do."""
    try:
        SvidFiles(folder)
    except SvidError:
        return False
    own = own_svid(folder)
    return own is not None and own.ends > datetime.now(UTC)
