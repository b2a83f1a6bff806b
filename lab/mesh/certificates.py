"""Keeps every SVID of a local mesh fresh: issues, publishes, and renews at half life."""

from __future__ import annotations

from datetime import datetime, timedelta

from lab.mesh.addresses import key
from lab.mesh.authority import BUNDLE, Authority, authority, issue, svid_files
from lab.mesh.folders import Folders, publish
from zt.effective import Effective
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

    def renew(self, now: datetime) -> None:
        """Issue all SVIDs again if half of their life is over."""
        if self._due is not None and now < self._due:
            return
        root = self._root(now)
        for item in self._effective.services:
            self._publish(root, key(item.service), item.spiffe, now, self._lifetime)
        self._issue_attackers(root, now)
        self._due = now + timedelta(seconds=self._lifetime / 2)

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
    ) -> None:
        files = svid_files(issue(root, spiffe, now, lifetime), root)
        publish(self._folders.svid(name), files)
