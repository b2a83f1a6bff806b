import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from engine.kubernetes import secret
from engine.kubernetes.client import Kubernetes, KubernetesError
from engine.kubernetes.recipes import Recipe, RecipeError, password, recipes
from engine.kubernetes.secret import UnfitError, main, make
from tests.engine.kubernetes.apiserver import Cluster, serving
from zt.wellknown import MANAGED_BY

OWNER = "zt-secrets-audit"
ROLE = f"/apis/rbac.authorization.k8s.io/v1/namespaces/shop/roles/{OWNER}"
RECIPE = Recipe("shop", "db", ("root", "app"), {"url": "postgresql://app:{app}@db/x"})
PATH = "/api/v1/namespaces/shop/secrets/db"


def cluster(**objects: dict[str, Any]) -> Cluster:
    return Cluster(objects={ROLE: {"metadata": {"uid": "uid-1"}}, **objects})


def data(found: Cluster) -> dict[str, str]:
    return {
        key: base64.b64decode(text).decode() for key, text in found.objects[PATH]["data"].items()
    }


def a_secret(values: dict[str, str], labels: dict[str, str]) -> dict[str, Any]:
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in values.items()}
    return {"metadata": {"name": "db", "labels": labels}, "data": encoded}


def test_passwords_are_new_long_and_harmless_in_any_syntax() -> None:
    made = {password() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch("[A-Za-z0-9]{40}", word) for word in made)


def test_a_secret_is_made_with_its_owner() -> None:
    found = cluster()
    with serving(found) as api:
        assert make(api, RECIPE, OWNER) == {"root", "app", "url"}
    made = found.objects[PATH]
    assert made["metadata"]["labels"] == MANAGED_BY
    assert made["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "name": OWNER,
            "uid": "uid-1",
        }
    ]
    values = data(found)
    assert values["root"] != values["app"]
    assert values["url"] == f"postgresql://app:{values['app']}@db/x"


def test_what_is_there_stays() -> None:
    found = cluster()
    with serving(found) as api:
        make(api, RECIPE, OWNER)
        before = data(found)
        assert make(api, RECIPE, OWNER) == frozenset()
        assert data(found) == before


def test_a_recipe_that_grew_adds_to_what_is_there() -> None:
    found = cluster()
    grown = Recipe("shop", "db", (*RECIPE.passwords, "more"), {"dsn": "{root}:{more}"})
    with serving(found) as api:
        make(api, RECIPE, OWNER)
        before = data(found)
        assert make(api, grown, OWNER) == {"more", "dsn"}
    after = data(found)
    assert after.items() >= before.items()
    assert after["dsn"] == f"{before['root']}:{after['more']}"


def test_of_two_runs_at_once_one_wins() -> None:
    """The second finds nothing there, and then the first was faster."""
    found = cluster()
    with serving(found) as api:
        first: dict[str, str] = {}

        def meanwhile() -> str:
            if not first:
                first["app"] = first["root"] = ""
                make(api, RECIPE, OWNER)
                first.update(data(found))
            return "too late"

        assert make(api, RECIPE, OWNER, meanwhile) == frozenset()
    assert data(found) == first
    assert "too late" not in first.values()


def test_a_secret_of_others_is_used_as_it_is_or_refused() -> None:
    whole = {"root": "r", "app": "a", "url": "u"}
    found = cluster()
    with serving(found) as api:
        found.objects[PATH] = a_secret(whole, {})
        assert make(api, RECIPE, OWNER) == frozenset()
        found.objects[PATH] = a_secret({"root": "r"}, {})
        with pytest.raises(UnfitError, match="shop/db was made by someone else and has no app"):
            make(api, RECIPE, OWNER)
        assert data(found) == {"root": "r"}


def test_braces_that_are_no_password_stay() -> None:
    found = cluster()
    hcl = 'plugin "sql" { word = "{app}", other = "{ssh}" }'
    with serving(found) as api:
        make(api, Recipe("shop", "db", ("app",), {"hcl": hcl}), OWNER, lambda: "w{app}")
    assert data(found)["hcl"] == 'plugin "sql" { word = "w{app}", other = "{ssh}" }'


def test_a_server_gets_a_key_and_a_certificate_of_its_names() -> None:
    found = cluster()
    recipe = Recipe("shop", "db", (), {}, ("db", "db.shop.svc"))
    with serving(found) as api:
        assert make(api, recipe, OWNER) == {"tls.key", "tls.crt"}
        made = data(found)
        assert make(api, recipe, OWNER) == frozenset()
        del found.objects[PATH]["data"]["tls.crt"]
        with pytest.raises(UnfitError, match=r"only half there and has no tls\.crt"):
            make(api, recipe, OWNER)
    certificate = x509.load_pem_x509_certificate(made["tls.crt"].encode())
    key = load_pem_private_key(made["tls.key"].encode(), None)
    assert certificate.public_key() == key.public_key()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["db", "db.shop.svc"]
    certificate.verify_directly_issued_by(certificate)


def test_without_its_owner_nothing_is_made() -> None:
    found = Cluster()
    with serving(found) as api, pytest.raises(KubernetesError, match="404"):
        make(api, RECIPE, OWNER)
    assert PATH not in found.objects


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        "[{}]",
        '[{"namespace": "n", "secret": "s", "passwords": [], "texts": 1, "certificate": []}]',
    ],
)
def test_a_recipe_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="can't be read"):
        recipes(text)


def test_the_program_says_names_and_no_passwords(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cluster()
    told = [{"namespace": "shop", "secret": "db", "passwords": ["app"], "texts": {"u": "u:{app}"}}]
    told[0]["certificate"] = []
    with serving(found) as api:
        monkeypatch.setattr(secret, "in_cluster", lambda _: api)
        assert main(["--owner", OWNER, json.dumps(told)], {}) == 0
        assert main(["--owner", OWNER, json.dumps(told)], {}) == 0
    said = capsys.readouterr().err
    assert said == "Secret shop/db has new app, u\nSecret shop/db stays as it is\n"
    assert data(found)["app"] not in said


def test_the_program_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["--owner", OWNER, "{"], {}) == 2
    assert main(["--owner", OWNER, "[]"], {}) == 1
    monkeypatch.setattr(secret, "in_cluster", lambda _: Kubernetes("localhost", 1, tmp_path))
    told = '[{"namespace": "n", "secret": "s", "passwords": [], "texts": {}, "certificate": ["s"]}]'
    assert main(["--owner", OWNER, told], {}) == 1
    first, second, third = capsys.readouterr().err.splitlines()
    assert "can't be read" in first
    assert "this is no pod" in second
    assert "no CA of the Kubernetes API" in third
