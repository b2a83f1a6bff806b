"""Small clusters with NetworkPolicies, along cyclonus' taxonomy, and what may be asked of them.

Drawn are: target (selectors of pods), direction (policyTypes, said or not), action (nothing, rules,
an empty rule), peers (pods, namespaces, both, IP blocks with exceptions), ports (numbers, names,
ranges, none), protocols, and conflicts (several policies for one pod).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from lab.enforcer.model import Cluster, cluster_of
from tests.oracles import networkpolicy as oracle

Json = dict[str, Any]

NAMESPACES = ("x", "y")
NAMES = ("a", "b", "c")
PORTS = {80: "serve-80", 81: "serve-81"}
PROTOCOLS = ("TCP", "UDP")
OUTSIDE = "198.51.100.9"
POD_NETWORK = "10.9.0.0/16"


@dataclass(frozen=True)
class Scene:
    """Objects as an API server has them."""

    pods: tuple[Json, ...]
    namespaces: tuple[Json, ...]
    policies: tuple[Json, ...]

    @property
    def cluster(self) -> Cluster:
        return cluster_of(self.pods, self.namespaces, self.policies)


@dataclass(frozen=True, eq=False)
class Question:
    """A connection; an end is a pod or an address. Each is itself alone."""

    source: Json | str
    destination: Json | str
    port: int
    protocol: str


def address(end: Json | str) -> str:
    return end if isinstance(end, str) else str(end["status"]["podIP"])


def pod(namespace: str, name: str, number: int, **labels: str) -> Json:
    ports = [
        {"name": f"{text}-{protocol.lower()}", "containerPort": port, "protocol": protocol}
        for port, text in PORTS.items()
        for protocol in PROTOCOLS
    ]
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": {"pod": name, **labels}},
        "spec": {"containers": [{"name": "app", "ports": ports}]},
        "status": {"podIP": f"10.9.0.{number}", "hostIP": "192.0.2.30", "phase": "Running"},
    }


def policy(namespace: str, name: str, **spec: Any) -> Json:  # noqa: ANN401 - any JSON
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"podSelector": {}, **spec},
    }


PODS = tuple(
    pod(namespace, name, 10 + 3 * row + column, tier=("web", "data")[(row + column) % 2])
    for row, namespace in enumerate(NAMESPACES)
    for column, name in enumerate(NAMES)
)
SPACES: tuple[Json, ...] = tuple(
    {"metadata": {"name": name, "labels": {"ns": name}}} for name in NAMESPACES
)


def _expressions(key: str, values: tuple[str, ...]) -> st.SearchStrategy[Json]:
    listed = st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)
    keys = st.sampled_from((key, "absent"))
    return st.one_of(
        st.builds(
            lambda k, operator, found: {"key": k, "operator": operator, "values": found},
            keys,
            st.sampled_from(("In", "NotIn")),
            listed,
        ),
        st.builds(
            lambda k, operator: {"key": k, "operator": operator},
            keys,
            st.sampled_from(("Exists", "DoesNotExist")),
        ),
    )


def _selectors(key: str, values: tuple[str, ...]) -> st.SearchStrategy[Json]:
    return st.one_of(
        st.just({}),
        st.builds(lambda value: {"matchLabels": {key: value}}, st.sampled_from(values)),
        st.builds(lambda one: {"matchExpressions": [one]}, _expressions(key, values)),
    )


_pods = st.one_of(_selectors("pod", NAMES), _selectors("tier", ("web", "data")))
_spaces = st.one_of(
    _selectors("ns", NAMESPACES), _selectors("kubernetes.io/metadata.name", NAMESPACES)
)
_blocks = st.sampled_from(
    (
        {"cidr": "0.0.0.0/0"},
        {"cidr": "0.0.0.0/0", "except": [POD_NETWORK]},
        {"cidr": POD_NETWORK, "except": ["10.9.0.10/31", "10.9.0.12/32"]},
        {"cidr": "10.9.0.8/29"},
        {"cidr": "10.9.0.11/32"},
        {"cidr": "198.51.100.0/24", "except": ["198.51.100.0/25"]},
        {"cidr": "198.51.100.0/24"},
    )
)
_peers = st.one_of(
    st.builds(lambda s: {"podSelector": s}, _pods),
    st.builds(lambda s: {"namespaceSelector": s}, _spaces),
    st.builds(lambda n, p: {"namespaceSelector": n, "podSelector": p}, _spaces, _pods),
    st.builds(lambda b: {"ipBlock": b}, _blocks),
)


def _port(protocol: str | None, port: int | str | None, span: int) -> Json:
    found: Json = {} if protocol is None else {"protocol": protocol}
    if isinstance(port, str):
        # A name belongs to one protocol; cyclonus and the API agree only then.
        found |= {"port": f"{port}-{(protocol or 'TCP').lower()}"}
    elif port is not None:
        found |= {"port": port} | ({"endPort": port + span} if span else {})
    return found


_ports = st.builds(
    _port,
    st.sampled_from((None, "TCP", "UDP", "SCTP")),
    st.sampled_from((None, 80, 81, 79, "serve-80", "serve-81", "none")),
    st.sampled_from((0, 0, 1, 5)),
)


def _rules(side: str) -> st.SearchStrategy[list[Json]]:
    rule = st.fixed_dictionaries(
        {},
        optional={side: st.lists(_peers, max_size=3), "ports": st.lists(_ports, max_size=3)},
    )
    return st.lists(rule, max_size=2)


_types = st.sampled_from((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
_specs = st.fixed_dictionaries(
    {"podSelector": _pods},
    optional={"policyTypes": _types, "ingress": _rules("from"), "egress": _rules("to")},
)


def _scene(drawn: list[tuple[str, Json]]) -> Scene:
    policies = (policy(space, f"p{n}", **spec) for n, (space, spec) in enumerate(drawn))
    return Scene(PODS, SPACES, tuple(policies))


def scenes() -> st.SearchStrategy[Scene]:
    """The same six pods in two namespaces, and up to four policies."""
    one = st.tuples(st.sampled_from(NAMESPACES), _specs)
    return st.builds(_scene, st.lists(one, min_size=1, max_size=4))


def questions(scene: Scene, protocols: tuple[str, ...] = PROTOCOLS) -> Iterator[Question]:
    """Every pair of ends, of which one is a pod at least, at every port, by every protocol."""
    ends: tuple[Json | str, ...] = (*scene.pods, OUTSIDE)
    for source in ends:
        for destination in ends:
            if source is not destination:
                for port in PORTS:
                    for protocol in protocols:
                        yield Question(source, destination, port, protocol)


class Expected:
    """What the oracle says of a scene."""

    def __init__(self, scene: Scene) -> None:
        spaces = {s["metadata"]["name"]: s["metadata"]["labels"] for s in scene.namespaces}
        self._cluster = oracle.Cluster(scene.policies, spaces)

    def allowed(self, asked: Question) -> bool:
        source, destination = (
            _end(end, asked.protocol) for end in (asked.source, asked.destination)
        )
        return self._cluster.allowed(source, destination, asked.port, asked.protocol)


def _end(end: Json | str, protocol: str) -> oracle.End:
    """The oracle's names of ports know no protocols: it gets those of the one asked about."""
    if isinstance(end, str):
        return end
    ports = end["spec"]["containers"][0]["ports"]
    return oracle.Pod(
        end["metadata"]["name"],
        end["metadata"]["namespace"],
        end["metadata"]["labels"],
        address(end),
        {p["name"]: p["containerPort"] for p in ports if p["protocol"] == protocol},
    )
