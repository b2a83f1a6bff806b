"""The narrowest rights for each project, as Vault's policies."""

from __future__ import annotations

from importlib.resources import files

# The gateway of a cluster; its SPIRE servers; the ceremony; `zt keys status`.
NAMES = ("zt-wireguard", "zt-root-ca", "zt-root-ca-ceremony", "zt-status")
_CLUSTER = "CLUSTER"


def policy(name: str, cluster: str = "") -> str:
    """The text of a policy, for a cluster where it is of one.

    Raises:
        ValueError: if it is of a cluster and none is given.
    """
    text = files("gateway.keys").joinpath("policies", f"{name}.hcl").read_text(encoding="utf-8")
    rules = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    if _CLUSTER in rules and not cluster:
        raise ValueError(f"the policy {name} is of one cluster: say which")
    return text.replace(_CLUSTER, cluster) if cluster else text
