"""Makes Secrets with new passwords in the cluster: ``python -m engine.kubernetes.secret``.

What is there is never overwritten; keys that a Secret of ours hasn't got yet are added. Passwords
go to the API server and nowhere else. Each run applies as a manager of its own, so that of two runs
at once the API server lets one win.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import string
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from engine.kubernetes.client import (
    CONFLICT,
    NOT_FOUND,
    Json,
    Kubernetes,
    KubernetesError,
    in_cluster,
)
from zt.wellknown import MANAGED_BY

_ROLES = "/apis/rbac.authorization.k8s.io/v1"
_ALPHABET = string.ascii_letters + string.digits
_LENGTH = 40
_MISUSE, _FAILED = 2, 1


class RecipeError(Exception):
    """What should be made can't be read; the message is one sentence."""


class ForeignError(Exception):
    """A Secret that is not ours lacks something; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A Secret: keys of passwords, and texts by key in which ``{key}`` stands for a password."""

    namespace: str
    secret: str
    passwords: tuple[str, ...]
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where the Secret is."""
        return f"/api/v1/namespaces/{self.namespace}/secrets/{self.secret}"

    @property
    def keys(self) -> frozenset[str]:
        """What it should have."""
        return frozenset((*self.passwords, *self.texts))


def password() -> str:
    """A new password: 238 bits, and no character that any syntax gives a meaning."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def recipes(text: str) -> tuple[Recipe, ...]:
    """Read recipes from JSON.

    Raises:
        RecipeError: if they can't be read.
    """
    try:
        found = tuple(
            Recipe(item["namespace"], item["secret"], tuple(item["passwords"]), item["texts"])
            for item in json.loads(text)
        )
        for recipe in found:
            _composed(recipe, dict.fromkeys(recipe.passwords, ""))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise RecipeError(f"the recipes can't be read: {type(error).__name__} {error}") from None
    return found


def make(
    api: Kubernetes, recipe: Recipe, owner: str, new: Callable[[], str] = password
) -> frozenset[str]:
    """Make a Secret, or what it lacks; the keys that were made.

    ``owner`` is a Role of its namespace: with it the Secret goes as well.

    Raises:
        ForeignError: if a Secret that someone else made lacks a key.
        KubernetesError: if the API server refuses, or can't be reached.
    """
    present = _present(api, recipe)
    have = _data(present)
    lacking = recipe.keys - have.keys()
    if not lacking:
        return lacking
    if present and not _is_ours(present):
        raise ForeignError(_foreign(recipe, lacking))
    words = {key: have.get(key) or new() for key in recipe.passwords}
    values = {**words, **_composed(recipe, words)}
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


def _is_ours(secret: Json) -> bool:
    return MANAGED_BY.items() <= (secret["metadata"].get("labels") or {}).items()


def _composed(recipe: Recipe, words: Mapping[str, str]) -> dict[str, str]:
    return {key: text.format_map(words) for key, text in recipe.texts.items()}


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


def _foreign(recipe: Recipe, lacking: frozenset[str]) -> str:
    keys = ", ".join(sorted(lacking))
    return (
        f"Secret {recipe.namespace}/{recipe.secret} was made by someone else and has no {keys}: "
        "add that, or delete the Secret so that it is made anew"
    )


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
    except (ForeignError, KubernetesError) as error:
        sys.stderr.write(f"engine.kubernetes.secret: {error}\n")
        return _FAILED
    return 0


class _Told(argparse.Namespace):
    owner: str
    recipes: str


def _arguments(arguments: Sequence[str]) -> _Told:
    parser = argparse.ArgumentParser("engine.kubernetes.secret")
    parser.add_argument("--owner", required=True, help="the Role with which the Secrets go")
    parser.add_argument("recipes", help="JSON: [{namespace, secret, passwords: [], texts: {}}]")
    return parser.parse_args(arguments, _Told())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
