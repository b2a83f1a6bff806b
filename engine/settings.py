"""What the evaluator is told by its environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from zt.inject import Images
from zt.values import parse_port
from zt.wellknown import (
    AGENT_SOCKET,
    EVALUATOR_API,
    EVALUATOR_GRPC,
    EVALUATOR_HEALTH,
    EVALUATOR_WEBHOOK,
)

POLICY_PATH = "/etc/zt/policies/"
STATE_PATH = "/var/lib/zt"
SVID_PATH = "/run/zt/svid"
LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the kubelet and sidecars of other pods come from outside
SEGMENT_BYTES = 64 << 20
SPOOL_BYTES = 1 << 30
MAX_WORKERS = 64


class SettingsError(Exception):
    """A setting is missing or wrong; the message is one sentence for whoever set it."""


class Durability(StrEnum):
    """What an answered decision survives: the process, the node, the node and its disk."""

    PROCESS = "process"
    DISK = "disk"
    DB = "db"


class Transport(StrEnum):
    """What serves gRPC."""

    NGH2 = "ngh2"
    GRPCIO = "grpcio"


class Storage(StrEnum):
    """Where the SVID may lie that the SPIRE agent gave: in memory, or on any file system."""

    MEMORY = "memory"
    ANY = "any"


class Plaintext(StrEnum):
    """Which ports go without TLS, on loopback alone."""

    NOTHING = ""
    API = "api"
    LOOPBACK = "loopback"


@dataclass(frozen=True, slots=True)
class Listen:
    """An address and TCP port to listen on; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit trail: sizes in bytes.

    The DSN carries a password, so it never shows in a ``repr``.
    """

    dsn: str = field(repr=False)
    durability: Durability
    segment_bytes: int
    spool_bytes: int
    checkpoints: Path | None
    checkpoint_key: Path | None


@dataclass(frozen=True, slots=True)
class ConfigMap:
    """The ConfigMap that holds the policies, for changes through the API."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Webhook:
    """The admission webhook: where it listens, and its MutatingWebhookConfiguration."""

    listen: Listen
    configuration: str
    images: Images


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings.

    ``svid_path`` is ``None`` where nothing has TLS; it is filled from ``spire_socket``, the SPIRE
    agent's, where there is one. ``cluster`` is this evaluator's own, where it watches its pods.
    """

    policy_path: Path
    state_path: Path
    audit: Audit
    api: Listen
    health: Listen
    grpc: Listen
    plaintext: Plaintext
    svid_path: Path | None
    spire_socket: Path | None
    svid_storage: Storage
    locations_path: Path | None
    cluster: str | None
    config_map: ConfigMap | None
    webhook: Webhook | None
    workers: int
    transport: Transport

    @property
    def images(self) -> Images | None:
        """What the webhook injects."""
        return self.webhook.images if self.webhook else None

    @property
    def api_tls(self) -> Path | None:
        """The SVID of the API's port."""
        return None if self.plaintext else self.svid_path

    @property
    def spool(self) -> Path:
        """Where records wait for the database."""
        return self.state_path / "spool"

    @property
    def policy(self) -> Path:
        """What the builder leaves."""
        return self.state_path / "policy"

    @property
    def metrics(self) -> Path:
        """Counters of all processes."""
        return self.state_path / "metrics"

    @property
    def locations(self) -> Path | None:
        """The table of pods: as it was given, or as the watch of the cluster's pods writes it."""
        return self.state_path / "locations.json" if self.cluster else self.locations_path


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read the settings (HIP-54, "Policy Engine", and our own; docs/evaluator.md lists them).

    Raises:
        SettingsError: if one is missing or wrong.
    """
    plaintext = _choice(environment, "ZT_PLAINTEXT", Plaintext, Plaintext.NOTHING)
    api_host = _address(environment, "ZT_API_HOST", LOOPBACK if plaintext else EVERYWHERE)
    open_grpc = plaintext is Plaintext.LOOPBACK
    host = _address(environment, "ZT_HOST", LOOPBACK if open_grpc else EVERYWHERE)
    if plaintext:
        _require_loopback("ZT_API_HOST", api_host, plaintext)
    if open_grpc:
        _require_loopback("ZT_HOST", host, plaintext)
    settings = Settings(
        policy_path=Path(environment.get("ZT_POLICY_PATH") or POLICY_PATH),
        state_path=Path(environment.get("ZT_STATE_PATH") or STATE_PATH),
        audit=_audit(environment),
        api=Listen(api_host, _port(environment, "ZT_API_PORT", EVALUATOR_API)),
        health=Listen(host, _port(environment, "ZT_HEALTH_PORT", EVALUATOR_HEALTH)),
        grpc=Listen(host, _port(environment, "ZT_GRPC_PORT", EVALUATOR_GRPC)),
        plaintext=plaintext,
        svid_path=None if open_grpc else _svid_path(environment),
        spire_socket=None if open_grpc else _spire_socket(environment),
        svid_storage=_choice(environment, "ZT_SVID_STORAGE", Storage, Storage.MEMORY),
        locations_path=_path(environment, "ZT_LOCATIONS_PATH"),
        cluster=environment.get("ZT_CLUSTER") or None,
        config_map=_config_map(environment),
        webhook=_webhook(environment, host, plaintext),
        workers=_number(environment, "ZT_WORKERS", 1, 1, MAX_WORKERS),
        transport=_choice(environment, "ZT_GRPC", Transport, Transport.NGH2),
    )
    if settings.transport is Transport.GRPCIO and settings.workers > 1:
        raise SettingsError("ZT_GRPC=grpcio serves with one worker: set ZT_WORKERS=1")
    return settings


def _audit(environment: Mapping[str, str]) -> Audit:
    dsn = environment.get("ZT_AUDIT_DSN")
    if not dsn:
        raise SettingsError(
            "ZT_AUDIT_DSN is not set: give the audit database's DSN, because every decision is "
            "recorded there"
        )
    segment = _number(environment, "ZT_SEGMENT_BYTES", SEGMENT_BYTES, 1 << 16, 1 << 30)
    checkpoints = _path(environment, "ZT_CHECKPOINT_PATH")
    key = _path(environment, "ZT_CHECKPOINT_KEY_PATH")
    if (checkpoints is None) != (key is None):
        raise SettingsError(
            "ZT_CHECKPOINT_PATH and ZT_CHECKPOINT_KEY_PATH go together: give the folder of "
            "checkpoints and the file of the key that signs them, or neither"
        )
    return Audit(
        dsn=dsn,
        durability=_choice(environment, "ZT_DURABILITY", Durability, Durability.PROCESS),
        segment_bytes=segment,
        spool_bytes=_number(environment, "ZT_SPOOL_BYTES", SPOOL_BYTES, 2 * segment, 1 << 40),
        checkpoints=checkpoints,
        checkpoint_key=key,
    )


def _config_map(environment: Mapping[str, str]) -> ConfigMap | None:
    value = environment.get("ZT_POLICY_CONFIGMAP")
    if not value:
        return None
    namespace, slash, name = value.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise SettingsError(
            f"ZT_POLICY_CONFIGMAP is {value!r}: it should be <namespace>/<name> of the ConfigMap "
            "that holds the policies"
        )
    return ConfigMap(namespace, name)


def _webhook(environment: Mapping[str, str], host: str, plaintext: Plaintext) -> Webhook | None:
    name = environment.get("ZT_WEBHOOK")
    if not name:
        return None
    if plaintext is Plaintext.LOOPBACK:
        raise SettingsError(
            "ZT_WEBHOOK is set, and ZT_PLAINTEXT=loopback: a Kubernetes API server calls a webhook "
            "by TLS alone"
        )
    if not environment.get("ZT_CLUSTER"):
        raise SettingsError(
            "ZT_WEBHOOK is set without ZT_CLUSTER: name the cluster whose pods it injects into"
        )
    envoy, redirect = environment.get("ZT_ENVOY_IMAGE"), environment.get("ZT_REDIRECT_IMAGE")
    if not (envoy and redirect):
        raise SettingsError(
            "ZT_WEBHOOK is set without ZT_ENVOY_IMAGE and ZT_REDIRECT_IMAGE: name the images of "
            "the containers that it injects"
        )
    port = _port(environment, "ZT_WEBHOOK_PORT", EVALUATOR_WEBHOOK)
    return Webhook(Listen(host, port), name, Images(envoy, redirect))


_T = TypeVar("_T", Durability, Transport, Plaintext, Storage)


def _choice(environment: Mapping[str, str], name: str, kind: type[_T], default: _T) -> _T:
    value = environment.get(name, default)
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(item for item in kind if item)
        raise SettingsError(f"{name} is {value!r}: it should be one of {choices}") from None


def _path(environment: Mapping[str, str], name: str) -> Path | None:
    value = environment.get(name)
    return Path(value) if value else None


def _svid_path(environment: Mapping[str, str]) -> Path:
    path = _path(environment, "ZT_SVID_PATH")
    if path is None and environment.get("ZT_SPIRE_SOCKET"):
        return Path(SVID_PATH)
    if path is None:
        raise SettingsError(
            "neither ZT_SPIRE_SOCKET nor ZT_SVID_PATH is set: give the SPIRE agent's socket, or "
            "the folder of svid.pem, svid_key.pem and bundle.pem, or ZT_PLAINTEXT=loopback on a "
            "developer's machine"
        )
    return path


def _spire_socket(environment: Mapping[str, str]) -> Path | None:
    text = environment.get("ZT_SPIRE_SOCKET", "")
    path = text.removeprefix("unix://").removeprefix("unix:")
    if text and not path.startswith("/"):
        raise SettingsError(
            f"ZT_SPIRE_SOCKET is {text!r}: it should be the path of the SPIRE agent's socket, like "
            f"{AGENT_SOCKET}"
        )
    return Path(path) if path else None


def _address(environment: Mapping[str, str], name: str, default: str) -> str:
    host = environment.get(name) or default
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise SettingsError(f"{name} is {host!r}: it should be an IP address") from None
    return host


def _require_loopback(name: str, host: str, plaintext: Plaintext) -> None:
    if not ipaddress.ip_address(host).is_loopback:
        raise SettingsError(
            f"{name} is {host!r}, not a loopback address: ZT_PLAINTEXT={plaintext} serves it "
            "without TLS"
        )


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name)
    if not text:
        return default
    try:
        return 0 if text == "0" else parse_port(text)
    except ValueError:
        raise SettingsError(f"{name} is {text!r}: it should be a port, 1 to 65535") from None


def _number(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environment.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
        raise SettingsError(f"{name} is {text!r}: it should be a number from {least} to {most}")
    return int(text)
