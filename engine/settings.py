"""What the evaluator is told by its environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zt.values import parse_port
from zt.wellknown import EVALUATOR_API, EVALUATOR_GRPC, EVALUATOR_HEALTH

POLICY_PATH = "/etc/zt/policies/"
LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the kubelet and sidecars of other pods come from outside


class SettingsError(Exception):
    """A setting is missing or wrong; the message is one sentence for whoever set it."""


@dataclass(frozen=True, slots=True)
class Listen:
    """An address and TCP port to listen on; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings; ``svid_path`` is ``None`` where gRPC is plaintext on loopback.

    The DSN carries a password, so it never shows in a ``repr``.
    """

    policy_path: Path
    audit_dsn: str = field(repr=False)
    api: Listen
    health: Listen
    grpc: Listen
    svid_path: Path | None
    locations_path: Path | None


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings (HIP-54, "Policy Engine", and our own).

    ``ZT_AUDIT_DSN``: the audit database. ``ZT_POLICY_PATH``: the policies. ``ZT_SVID_PATH``: folder
    of ``svid.pem``, ``svid_key.pem`` and ``bundle.pem``, or ``ZT_PLAINTEXT=loopback``.
    ``ZT_LOCATIONS_PATH``: JSON of addresses (``engine.locate``). ``ZT_HOST``: where gRPC and health
    listen. ``ZT_API_HOST``: where the API does. ``ZT_{API,HEALTH,GRPC}_PORT``: their ports.

    Raises:
        SettingsError: if one is missing or wrong.
    """
    plaintext = _plaintext(environment)
    host = environment.get("ZT_HOST", LOOPBACK if plaintext else EVERYWHERE)
    api_host = environment.get("ZT_API_HOST", LOOPBACK)
    for name, value in (("ZT_HOST", host), ("ZT_API_HOST", api_host)):
        _require_address(name, value)
    if plaintext:
        _require_loopback("ZT_HOST", host, "ZT_PLAINTEXT=loopback serves gRPC without TLS")
    _require_loopback("ZT_API_HOST", api_host, "the API speaks plain HTTP to this pod's sidecar")
    locations = environment.get("ZT_LOCATIONS_PATH")
    return Settings(
        policy_path=Path(environment.get("ZT_POLICY_PATH") or POLICY_PATH),
        audit_dsn=_dsn(environment),
        api=Listen(api_host, _port(environment, "ZT_API_PORT", EVALUATOR_API)),
        health=Listen(host, _port(environment, "ZT_HEALTH_PORT", EVALUATOR_HEALTH)),
        grpc=Listen(host, _port(environment, "ZT_GRPC_PORT", EVALUATOR_GRPC)),
        svid_path=None if plaintext else _svid_path(environment),
        locations_path=Path(locations) if locations else None,
    )


def _dsn(environment: Mapping[str, str]) -> str:
    dsn = environment.get("ZT_AUDIT_DSN")
    if not dsn:
        raise SettingsError(
            "ZT_AUDIT_DSN is not set: give the audit database's DSN, because no decision is "
            "answered before it is recorded"
        )
    return dsn


def _plaintext(environment: Mapping[str, str]) -> bool:
    value = environment.get("ZT_PLAINTEXT", "")
    if value not in ("", "loopback"):
        raise SettingsError(f"ZT_PLAINTEXT is {value!r}: the only value is 'loopback'")
    return value == "loopback"


def _svid_path(environment: Mapping[str, str]) -> Path:
    value = environment.get("ZT_SVID_PATH")
    if not value:
        raise SettingsError(
            "ZT_SVID_PATH is not set: give the folder of svid.pem, svid_key.pem and bundle.pem, "
            "or ZT_PLAINTEXT=loopback on a developer's machine"
        )
    return Path(value)


def _require_address(name: str, host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise SettingsError(f"{name} is {host!r}: it should be an IP address") from None


def _require_loopback(name: str, host: str, because: str) -> None:
    if not ipaddress.ip_address(host).is_loopback:
        raise SettingsError(f"{name} is {host!r}, not a loopback address: {because}")


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name)
    if not text:
        return default
    try:
        return 0 if text == "0" else parse_port(text)
    except ValueError:
        raise SettingsError(f"{name} is {text!r}: it should be a port, 1 to 65535") from None
