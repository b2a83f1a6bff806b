"""The audit trail of a cluster of the lab, read where the database is: on its pod's loopback."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from components.audit.access import ADMIN
from components.audit.in_cluster import SERVICE
from lab.cluster.client import Client
from lab.cluster.model import LabError
from lab.mesh.trail import Entry
from lab.nodes.pods import pods, process_of
from lab.verify.callers import container_of
from lab.verify.network import within
from zt.model import Policy

_PATIENCE = 20.0
_PAUSE = 0.2
# Sidecars report refusals every 0.1 s, drainers move records as often: what has not come in this
# time was not to come.
_SETTLED = 1.5
_SELECT = """
SELECT time, source_id, source_pod, source_node, destination_id, destination_port, verdict,
  would_be, rule, reason, layer
FROM zt_audit.trail WHERE time >= %s AND (%s::timestamptz IS NULL OR time < %s) ORDER BY time
"""


@dataclass(frozen=True, slots=True)
class Record:
    """A record; ``source_id`` is ``None`` where nobody showed an ID."""

    time: datetime
    source_id: str | None
    source_pod: str | None
    source_node: str | None
    destination_id: str
    destination_port: int
    verdict: str
    would_be: str
    rule: str
    reason: str
    layer: str

    @property
    def entry(self) -> Entry:
        """What it says of the connection, without when and from which pod."""
        return Entry(
            self.source_id,
            self.destination_id,
            self.destination_port,
            self.verdict,
            self.would_be,
            self.rule,
            self.layer,
        )


class Trail:
    """A reader of one cluster's trail, which connects again where it must."""

    def __init__(self, cluster: str, connect: Callable[[], psycopg.Connection]) -> None:
        self._cluster, self._connect = cluster, connect
        self._connection: psycopg.Connection | None = None

    def since(self, start: datetime, end: datetime | None = None) -> tuple[Record, ...]:
        """The records of connections that were decided from then on (and before the end).

        Raises:
            LabError: if the database can't be read.
        """
        try:
            return self._read(start, end)
        except psycopg.OperationalError:
            self.close()
        try:
            return self._read(start, end)
        except psycopg.Error as error:
            self.close()
            raise LabError(f"the audit database of {self._cluster}: {error}") from None

    def settled(
        self,
        start: datetime,
        enough: Callable[[Sequence[Record]], bool],
        patience: float = _PATIENCE,
    ) -> tuple[Record, ...]:
        """The same once there are enough of them, and all that come in a little while after.

        Those that are there after ``patience`` seconds, enough or not.

        Raises:
            LabError: if the database can't be read.
        """
        deadline = time.monotonic() + patience
        while not enough(self.since(start)) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        time.sleep(_SETTLED)
        return self.since(start)

    def close(self) -> None:
        """Disconnect."""
        if self._connection:
            self._connection.close()
        self._connection = None

    def _read(self, start: datetime, end: datetime | None) -> tuple[Record, ...]:
        if self._connection is None:
            self._connection = self._connect()
        rows = self._connection.execute(_SELECT, [start, end, end]).fetchall()
        return tuple(Record(*row) for row in rows)


def trail_of(api: Client, policy: Policy, cluster: str) -> Trail:
    """The trail of a cluster whose audit database is a pod of it; connects when it is read."""
    return Trail(cluster, lambda: _connect(api, _namespace(policy, cluster)))


def _namespace(policy: Policy, cluster: str) -> str:
    for service in policy.services:
        if (service.cluster, service.name) == (cluster, SERVICE):
            return service.namespace
    raise LabError(f"the policies declare no {SERVICE} in {cluster}")


def _connect(api: Client, namespace: str) -> psycopg.Connection:
    secret = api.get(f"/api/v1/namespaces/{namespace}/secrets/{ADMIN.secret}")
    if secret is None:
        raise LabError(f"there is no Secret {namespace}/{ADMIN.secret}")
    dsn = base64.b64decode(secret["data"][ADMIN.key]).decode()
    own = make_conninfo(dsn, host="127.0.0.1", connect_timeout="5")
    found = [pod for pod in pods(api, namespace) if pod.account == SERVICE and pod.ready]
    if not found:
        raise LabError(f"no pod of {namespace}/{SERVICE} is ready")
    pid = process_of(container_of(found[0]))
    try:
        return within(Path(f"/proc/{pid}/ns/net"), lambda: psycopg.connect(own, autocommit=True))
    except OSError as error:
        raise LabError(f"the pod of {namespace}/{SERVICE} ends: {error}") from None
