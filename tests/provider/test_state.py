from lab.provider.state import Known, manager_of, normal, read, secrets_of, written
from lab.provider.values import UNKNOWN, decoded, encoded

URN = "urn:pulumi:lab::hanzo-zt::kubernetes:core/v1:Secret::audit:zt/key"
CONFIG_MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a"},
    "data": {"k": "v"},
}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"k": "dg=="}}


def test_the_state_keeps_object_and_manager_apart() -> None:
    known = Known({**CONFIG_MAP, "status": {}}, CONFIG_MAP, "someone")
    assert read(written(known), encoded(CONFIG_MAP), URN) == known


def test_inputs_are_kept_once_by_the_engine_itself() -> None:
    plain, _ = decoded(written(Known(CONFIG_MAP, CONFIG_MAP, "someone")))
    assert plain.keys() == {*CONFIG_MAP, "__fieldManager", "__initialApiVersion"}


def test_a_resource_without_a_manager_gets_one_of_its_own() -> None:
    known = read(written(Known({}, {}, "")), encoded({}), URN)
    assert known.manager == manager_of(URN) != manager_of(f"{URN}-2")


def test_a_secret_is_secret_in_the_state() -> None:
    _, secrets = decoded(written(Known(SECRET, SECRET, "someone")))
    assert secrets == {("data",)}


def test_what_the_program_calls_secret_is_secret_in_any_kind() -> None:
    marked = frozenset({("data", "k")})
    assert secrets_of(CONFIG_MAP, marked) == marked
    _, secrets = decoded(written(Known(CONFIG_MAP, CONFIG_MAP, "someone", marked)))
    assert secrets == {("data", "k")}


def test_a_manifest_is_compared_as_the_api_server_stores_it() -> None:
    manifest = {
        "kind": "Secret",
        "metadata": {"name": "a", "uid": "1", "labels": None},
        "stringData": {"k": "v", "later": UNKNOWN},
        "type": None,
    }
    assert normal(manifest) == {
        "kind": "Secret",
        "metadata": {"name": "a"},
        "data": {"k": "dg==", "later": UNKNOWN},
    }
