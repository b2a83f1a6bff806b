"""Names and ports that several planes must agree on, and that the policy does not choose."""

from __future__ import annotations

MANAGED_BY = {"app.kubernetes.io/managed-by": "hanzo-zt"}

# Label of the namespaces that take part in the mesh, and the prefix of all labels of ours.
MESH_NAMESPACE = {"zt.hanzo.ai/mesh": "enabled"}
LABEL_PREFIX = "zt.hanzo.ai/"

# Label of the namespaces whose pods get a sidecar; the annotation by which a pod does without, and
# those that say what was put in and whose identity the pod has.
INJECTION_NAMESPACE = {"zt.hanzo.ai/injection": "enabled"}
INJECT = "zt.hanzo.ai/inject"
INJECTED = "zt.hanzo.ai/injected"
IDENTITY = "zt.hanzo.ai/identity"

# Ports of the sidecar, next to those of the application. Inbound listeners take one port each from
# SIDECAR_INBOUND on: the pod's own redirect leads a declared port there.
SIDECAR_INBOUND = 15100
SIDECAR_METRICS = 15020
SIDECAR_HEALTH = 15021
# Where the kubelet's probes of the application are answered.
SIDECAR_PROBES = 15022
SIDECAR_UID = 1337

# Where a pod has the ConfigMap of its service's sidecar, SPIRE's bundle, and what Envoy writes.
SIDECAR_CONFIGURATION = "/etc/zt/envoy"
SIDECAR_BUNDLE = "/run/zt/bundle"
SIDECAR_RUN = "/run/zt"

# The evaluator's: the specification's two, and Envoy's gRPC (Check and access log) beside them.
# It ends the mesh's TLS itself on all but health.
EVALUATOR_API = 8054
EVALUATOR_HEALTH = 8055
EVALUATOR_GRPC = 8056
# The API server asks here which sidecar a new pod needs.
EVALUATOR_WEBHOOK = 8057
# The MutatingWebhookConfiguration by which the API server asks it for sidecars.
INJECTION_WEBHOOK = "zt-injection"

# gRPC metadata by which a sidecar tells the evaluator which port of whom it speaks of.
METADATA_DESTINATION = "zt-destination"
METADATA_PORT = "zt-port"

# The cluster of each sidecar that leads to the SPIRE agent.
WORKLOAD_API = "workload_api"

# The gateways' Envoys: from pods of the own cluster, and from the tunnel.
GATEWAY_LOCAL = 15443
GATEWAY_TUNNEL = 15444
# WireGuard listens on the port of the gateway's endpoint, and on the next: keys are changed by a
# second tunnel beside the first.
WIREGUARD_LANES = 2

SPIRE_NAMESPACE = "spire-system"
SPIRE_SERVER_PORT = 8081
AGENT_SOCKET = "/run/spire/sockets/agent.sock"

# Who watches our registrations among several spire-controller-managers of a cluster.
SPIRE_CLASS = "hanzo-zt"
# The server's API, for the controller-manager in the same pod.
SERVER_SOCKET = "/run/spire/server/api.sock"
# Volumes of the SPIRE pods: the issuing CA from KMS (in memory), and the published trust bundle.
SPIRE_UPSTREAM = "/run/spire/upstream"
SPIRE_BUNDLE = "/run/spire/bundle"
# The CA of certificates that agents outside Kubernetes prove to have; a mount of the server.
SPIRE_NODE_CA = "/run/spire/node-ca"
# How the servers reach their database: SPIRE's own configuration of that plugin, from a Secret.
SPIRE_DATASTORE = "/run/spire/datastore/datastore.conf"
# SPIRE publishes the trust bundle to a ConfigMap of this name in each namespace of the mesh.
BUNDLE_CONFIGMAP = "spire-bundle"
BUNDLE_KEY = "bundle.pem"
SPIRE_METRICS = 9988
SPIRE_HEALTH = 8080

# ALPN by which a listener knows the mesh's own TLS.
ALPN = "zt"


def sidecar_configuration(service: str) -> str:
    """Name of the ConfigMap that holds the configuration of a service's sidecar."""
    return f"zt-envoy-{service}"


def server_name(port: int, service: str, namespace: str, cluster: str) -> str:
    """The SNI that a sidecar offers: ``<port>.<service>.<namespace>.<cluster>``."""
    return f"{port}.{service}.{namespace}.{cluster}"
