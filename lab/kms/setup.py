"""What an administrator of KMS does once: projects, who comes in, and with what rights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.keys.rights import policy
from zt.wellknown import SPIRE_NAMESPACE

GATEWAYS, AUTHORITIES = "zt-wireguard", "zt-root-ca"
# Whom pods' tokens are for (components.keys.AUDIENCE).
_AUDIENCE = "kms"
_SERVERS = "spire-server"
_TOKEN_LIFE = "10m"  # noqa: S105 - a time
_VERSIONS = 1000


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster whose pods come in: by tokens signed by the key whose public half is given.

    ``gateway`` is the gateway's namespace and service account.
    """

    name: str
    public_key: str
    gateway: tuple[str, str]

    @property
    def mount(self) -> str:
        """Where its tokens are taken."""
        return f"jwt-{self.name}"


def set_up(vault: Any, clusters: tuple[Cluster, ...]) -> None:  # noqa: ANN401 - hvac tells no types
    """Both projects, and for each cluster its gateway's and its SPIRE servers' way in."""
    for project in (GATEWAYS, AUTHORITIES):
        vault.sys.enable_secrets_engine("kv", path=project, options={"version": "2"})
        # Whoever looks for keys where they should not be has to know every one that there was.
        vault.secrets.kv.v2.configure(max_versions=_VERSIONS, mount_point=project)
    for name in ("zt-status", "zt-root-ca-ceremony"):
        vault.sys.create_or_update_policy(name, policy(name))
    for cluster in clusters:
        _let_in(vault, cluster)


def token_for(vault: Any, name: str) -> str:  # noqa: ANN401
    """A token with one policy, as an administrator hands it to people for an hour."""
    made = vault.auth.token.create(policies=[name], ttl="1h", no_default_policy=True)
    return str(made["auth"]["client_token"])


def _let_in(vault: Any, cluster: Cluster) -> None:  # noqa: ANN401
    vault.sys.enable_auth_method("jwt", path=cluster.mount)
    vault.auth.jwt.configure(
        jwt_validation_pubkeys=[cluster.public_key],
        jwt_supported_algs=["ES256"],
        path=cluster.mount,
    )
    accounts = {GATEWAYS: cluster.gateway, AUTHORITIES: (SPIRE_NAMESPACE, _SERVERS)}
    for project, (namespace, account) in accounts.items():
        name = f"{project}-{cluster.name}"
        vault.sys.create_or_update_policy(name, policy(project, cluster.name))
        vault.auth.jwt.create_role(
            project,
            path=cluster.mount,
            user_claim="sub",
            allowed_redirect_uris=[],
            bound_audiences=[_AUDIENCE],
            bound_subject=f"system:serviceaccount:{namespace}:{account}",
            token_policies=[name],
            token_ttl=_TOKEN_LIFE,
        )
