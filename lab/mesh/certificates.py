"""Keeps every SVID of a local mesh fresh: issues, publishes, and renews at half life."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

from lab.mesh.addresses import key
from lab.mesh.authority import BUNDLE, Authority, Svid, authority, issue, svid_files
from lab.mesh.discovery import Discovery, Identity, Resources, secrets
from lab.mesh.folders import Folders, publish
from zt.effective import Effective, EffectiveService
from zt.model import Service
from zt.spiffe import spiffe_id

# Certificates of attackers who got hold of our CA's signature; `verify` sees them refused.
UNDECLARED = "undeclared"
FOREIGN = "foreign"
EXPIRED = "expired"
FOREIGN_ID = "spiffe://attacker.example/cluster/default/guest"


class Certificates:
    """All certificates of one mesh, and the CA in memory that issues them."""

    def __init__(self, folders: Folders, effective: Effective, lifetime: int) -> None:
        """Nothing is issued before ``renew``. ``lifetime`` is that of SVIDs, in seconds."""
        self._folders = folders
        self._effective = effective
        self._lifetime = lifetime
        self._authority: Authority | None = None
        self._due: datetime | None = None
        self._identities: dict[str, Identity] = {}
        self._servers: dict[str, Discovery] = {}

    def renew(self, now: datetime) -> None:
        """Issue all SVIDs again if half of their life is over."""
        if self._due is not None and now < self._due:
            return
        root = self._root(now)
        for item in self._effective.services:
            self._renew(root, item, now)
        self._issue_attackers(root, now)
        self._due = now + timedelta(seconds=self._lifetime / 2)

    async def serve(self, service: Service, resources: Resources, socket: Path) -> None:
        """Serve a sidecar what was compiled for it and, from now on, its SVID."""
        name = key(service)
        server = Discovery({**resources, **secrets(self._identities[name])})
        await server.start(socket)
        self._servers[name] = server

    async def stop(self) -> None:
        """Serve no sidecar any more."""
        await asyncio.gather(*(server.stop() for server in self._servers.values()))

    def _renew(self, root: Authority, item: EffectiveService, now: datetime) -> None:
        name = key(item.service)
        svid = self._publish(root, name, item.spiffe, now, self._lifetime)
        identity = self._identities[name] = Identity(svid.certificate, svid.key, root.bundle)
        if name in self._servers:
            self._servers[name].put(secrets(identity))

    def _root(self, now: datetime) -> Authority:
        if self._authority is None:
            mesh = self._effective.mesh
            self._authority = authority(mesh.trust_domain, now, mesh.lifetimes.root)
            publish(self._folders.bundle, {BUNDLE: self._authority.bundle})
        return self._authority

    def _issue_attackers(self, root: Authority, now: datetime) -> None:
        mesh = self._effective.mesh
        cluster = mesh.clusters[0].name
        undeclared = spiffe_id(mesh.trust_domain, cluster, "default", "nobody-declared-this")
        self._publish(root, f"attackers/{UNDECLARED}", undeclared, now, self._lifetime)
        self._publish(root, f"attackers/{FOREIGN}", FOREIGN_ID, now, self._lifetime)
        for item in self._effective.services:
            self._publish(root, f"attackers/{EXPIRED}/{key(item.service)}", item.spiffe, now, -1)

    def _publish(
        self, root: Authority, name: str, spiffe: str, now: datetime, lifetime: int
    ) -> Svid:
        svid = issue(root, spiffe, now, lifetime)
        publish(self._folders.svid(name), svid_files(svid, root))
        return svid
