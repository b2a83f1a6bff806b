"""The issuing CA, under which each server makes its own CA, and the volume that it is on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from components.keys import Delivery, key_container, key_volumes
from components.settings import DevelopmentAuthority, StackSettings
from components.spire.names import SERVER_USER
from zt.wellknown import SPIRE_UPSTREAM

Json = dict[str, Any]

VOLUME = "upstream"
# What SPIRE's configuration names, as in the Secret of a development CA.
_FIELDS = ("tls.crt", "tls.key", "bundle.crt")


@dataclass(frozen=True, slots=True)
class Authority:
    """Volumes of the servers' pods, and what fills them before the server starts."""

    volumes: list[Json]
    containers: list[Json] = field(default_factory=list)


def authority(settings: StackSettings) -> Authority:
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
    return Authority(key_volumes(delivery), [key_container(delivery)])
