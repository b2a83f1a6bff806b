"""Makes Secrets with new passwords in the cluster: ``python -m engine.kubernetes.secret``.

What is there is never overwritten; keys that a Secret of ours hasn't got yet are added. Passwords
go to the API server and nowhere else. Each run applies as a manager of its own, so that of two runs
at once the API server lets one win.
"""

from __future__ import annotations

import argparse
import base64
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence

from engine.kubernetes.client import (
    CONFLICT,
    NOT_FOUND,
    Json,
    Kubernetes,
    KubernetesError,
    in_cluster,
)
from engine.kubernetes.recipes import (
    CERTIFICATE,
    KEY,
    Recipe,
    RecipeError,
    password,
    recipes,
    values_of,
)
from zt.wellknown import MANAGED_BY

_ROLES = "/apis/rbac.authorization.k8s.io/v1"
_MISUSE, _FAILED = 2, 1


class UnfitError(Exception):
    """A Secret that is there can't be completed; the message is one sentence."""


def make(
    api: Kubernetes, recipe: Recipe, owner: str, new: Callable[[], str] = password
) -> frozenset[str]:
    """Make a Secret, or what it lacks; the keys that were made.

    ``owner`` is a Role of its namespace: with it the Secret goes as well.

    Raises:
        UnfitError: if what is there can't be completed.
        KubernetesError: if the API server refuses, or can't be reached.
    """
    present = _present(api, recipe)
    have = _data(present)
    lacking = recipe.keys - have.keys()
    if not lacking:
        return lacking
    if present:
        _require_fit(recipe, present, lacking)
    values = values_of(recipe, have, new)
    content = _secret(recipe, {key: values[key] for key in lacking})
    if not present:
        content["metadata"]["ownerReferences"] = [_owner(api, recipe.namespace, owner)]
    try:
        api.apply(recipe.path, content, f"zt-secret-{secrets.token_hex(8)}")
    except KubernetesError as error:
        # Another run was faster, and its passwords hold: what it lacks is made on top of them.
        if error.status != CONFLICT:
            raise
        return make(api, recipe, owner, new)
    return lacking


def _present(api: Kubernetes, recipe: Recipe) -> Json:
    try:
        return api.get(recipe.path)
    except KubernetesError as error:
        if error.status != NOT_FOUND:
            raise
        return {}


def _data(secret: Json) -> dict[str, str]:
    return {
        key: base64.b64decode(text).decode() for key, text in (secret.get("data") or {}).items()
    }


def _require_fit(recipe: Recipe, secret: Json, lacking: frozenset[str]) -> None:
    ours = MANAGED_BY.items() <= (secret["metadata"].get("labels") or {}).items()
    if ours and len(lacking & {KEY, CERTIFICATE}) != 1:
        return
    what = "is only half there" if ours else "was made by someone else"
    raise UnfitError(
        f"Secret {recipe.namespace}/{recipe.secret} {what} and has no "
        f"{', '.join(sorted(lacking))}: add that, or delete the Secret so that it is made anew"
    )


def _secret(recipe: Recipe, values: Mapping[str, str]) -> Json:
    data = {key: base64.b64encode(text.encode()).decode() for key, text in sorted(values.items())}
    metadata: Json = {
        "name": recipe.secret,
        "namespace": recipe.namespace,
        "labels": dict(MANAGED_BY),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "data": data,
    }


def _owner(api: Kubernetes, namespace: str, role: str) -> Json:
    found = api.get(f"{_ROLES}/namespaces/{namespace}/roles/{role}")
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "name": role,
        "uid": found["metadata"]["uid"],
    }


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Make all Secrets; 2 if it is told wrongly, 1 if any can't be made."""
    told = _arguments(arguments)
    try:
        wanted = recipes(told.recipes)
        api = in_cluster(environment)
        for recipe in wanted:
            made = make(api, recipe, told.owner)
            what = f"has new {', '.join(sorted(made))}" if made else "stays as it is"
            sys.stderr.write(f"Secret {recipe.namespace}/{recipe.secret} {what}\n")
    except RecipeError as error:
        sys.stderr.write(f"engine.kubernetes.secret: {error}\n")
        return _MISUSE
    except (UnfitError, KubernetesError) as error:
        sys.stderr.write(f"engine.kubernetes.secret: {error}\n")
        return _FAILED
    return 0


class _Told(argparse.Namespace):
    owner: str
    recipes: str


def _arguments(arguments: Sequence[str]) -> _Told:
    parser = argparse.ArgumentParser("engine.kubernetes.secret")
    parser.add_argument("--owner", required=True, help="the Role with which the Secrets go")
    parser.add_argument("recipes", help="JSON: a list of objects with the fields of Recipe")
    return parser.parse_args(arguments, _Told())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
