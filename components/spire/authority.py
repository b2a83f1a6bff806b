"""The issuing CA, under which each server makes its own CA, and the volume that it is on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from components.keys import Delivery, key_container, key_volumes, refresh_container
from components.settings import DevelopmentAuthority, StackSettings
from components.spire.names import SERVER_USER
from zt.model import Lifetimes
from zt.wellknown import SPIRE_UPSTREAM

Json = dict[str, Any]

VOLUME = "upstream"
# What SPIRE's configuration names, as in the Secret of a development CA.
_FIELDS = ("tls.crt", "tls.key", "bundle.crt")
# Seconds at most, and so many times in the life of a server's own CA. It reads the files for each
# of them, at half of the life of the one before: far less often than they are refreshed.
_EVERY, _TIMES = 600, 60


@dataclass(frozen=True, slots=True)
class Authority:
    """Volumes of the servers' pods, what fills them before the server starts, and afterwards."""

    volumes: list[Json]
    first: list[Json] = field(default_factory=list)
    beside: list[Json] = field(default_factory=list)


def refresh_seconds(lifetimes: Lifetimes) -> int:
    """How often KMS is asked for a new issuing CA."""
    return max(1, min(_EVERY, lifetimes.ca // _TIMES))


def authority(settings: StackSettings, lifetimes: Lifetimes) -> Authority:
    """From a Secret in development; else from KMS, and then in memory alone."""
    source = settings.spire.authority
    if isinstance(source, DevelopmentAuthority):
        secret = {"secretName": source.secret, "defaultMode": 0o440}
        return Authority([{"name": VOLUME, "secret": secret}])
    delivery = Delivery(
        source=source,
        image=settings.images.gateway,
        volume=VOLUME,
        folder=SPIRE_UPSTREAM,
        user=SERVER_USER,
        fields=_FIELDS,
    )
    again = refresh_container(delivery, refresh_seconds(lifetimes))
    return Authority(key_volumes(delivery), [key_container(delivery)], [again])
