"""SPIRE as resources, in the order in which its parts need each other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pulumi

from components.generated_secret import GeneratedSecrets
from components.kube import register
from components.settings import ClusterDatabase, StackSettings
from components.spire import (
    agent,
    controller_manager,
    crds,
    datastore,
    network_policies,
    rbac,
    server,
)
from components.spire.names import watched_namespaces
from zt.bundle import Bundle
from zt.facts import Facts
from zt.wellknown import SPIRE_NAMESPACE, SPIRE_NODE_CA

Json = dict[str, Any]

_DIGEST_LENGTH = 16
_NO_NODE_AUTHORITY = (
    "hanzo-zt:spire.nodeAuthority is missing, and the policy declares a service outside Kubernetes:"
    f" put the CA of its agents' certificates as ca.crt into a ConfigMap of {SPIRE_NAMESPACE},"
    " and name that"
)


class Spire(pulumi.ComponentResource):
    """Servers on a shared database, agents, and one registration for each declared service.

    A change of the policy touches registrations alone; a change of SPIRE's own configuration
    restarts its pods.
    """

    def __init__(
        self, name: str, bundle: Bundle, settings: StackSettings, opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("hanzo-zt:components:Spire", name, None, opts)
        facts = _facts(bundle)
        kinds = self._register(crds.manifests())
        files = bundle.under("spire/registrations")
        registrations = self._register((file.manifest() for file in files), kinds)
        rights = self._register(rbac.manifests(facts))
        self._register(network_policies.manifests(facts, settings))
        maps = self._register(_bundle_maps(facts))
        servers = self._servers(bundle, facts, settings, [*kinds, *rights, *maps])
        self._agents(bundle, settings, [*rights, *servers])
        self.register_outputs({"registrations": len(registrations)})

    def _register(
        self, manifests: Iterable[Json], after: Sequence[pulumi.Resource] = ()
    ) -> list[pulumi.Resource]:
        return [register(manifest, self, depends_on=after) for manifest in manifests]

    def _servers(
        self,
        bundle: Bundle,
        facts: Facts,
        settings: StackSettings,
        after: Sequence[pulumi.Resource],
    ) -> list[pulumi.Resource]:
        database = self._database(settings)
        configuration = server_configuration(bundle, facts)
        maps = self._register(configuration)
        self._register([server.disruption_budget()])
        pods = server.stateful_set(settings, facts.lifetimes, digest_of(configuration))
        running = self._register([pods], [*after, *maps, *database])
        return [*running, *self._register([server.service()])]

    def _database(self, settings: StackSettings) -> list[pulumi.Resource]:
        if not isinstance(settings.spire.datastore, ClusterDatabase):
            return []
        GeneratedSecrets(
            f"{self._name}-datastore",
            [datastore.recipe()],
            settings.images.evaluator,
            pulumi.ResourceOptions(parent=self),
        )
        return self._register(datastore.manifests(settings))

    def _agents(
        self, bundle: Bundle, settings: StackSettings, after: Sequence[pulumi.Resource]
    ) -> None:
        configuration = agent_configuration(bundle)
        maps = self._register(configuration)
        pods = agent.daemon_set(settings, digest_of(configuration))
        self._register([pods], [*after, *maps])


def refusals(bundle: Bundle, settings: StackSettings) -> tuple[str, ...]:
    """What is wrong with a stack's settings for this policy: sentences that say what to do."""
    if f'"{SPIRE_NODE_CA}/' in _text(bundle, "server") and not settings.spire.node_authority:
        return (_NO_NODE_AUTHORITY,)
    return ()


def server_configuration(bundle: Bundle, facts: Facts) -> list[Json]:
    """What the servers' pods read when they start."""
    return [server.config_map(_text(bundle, "server")), controller_manager.config_map(facts)]


def agent_configuration(bundle: Bundle) -> list[Json]:
    """What the agents' pods read when they start."""
    return [agent.config_map(_text(bundle, "agent"))]


def digest_of(config_maps: Iterable[Json]) -> str:
    """A digest of what is in some ConfigMaps."""
    text = json.dumps([manifest["data"] for manifest in config_maps], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]


def _bundle_maps(facts: Facts) -> list[Json]:
    return [
        agent.bundle_map(namespace)
        for namespace in sorted({*watched_namespaces(facts), SPIRE_NAMESPACE})
    ]


def _text(bundle: Bundle, name: str) -> str:
    return bundle.file(f"spire/{name}.conf").text()


def _facts(bundle: Bundle) -> Facts:
    if bundle.facts is None:
        raise ValueError(f"{bundle.cluster} is no Kubernetes cluster: it runs no SPIRE")
    return bundle.facts
