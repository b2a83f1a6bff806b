from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lab.provider.values import UNKNOWN, decoded, encoded, has_unknown, value_in

keys = st.text(min_size=1, max_size=8)
leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
objects = st.dictionaries(keys, values, max_size=4)


@given(objects)
def test_what_goes_to_the_engine_comes_back_the_same(plain: dict[str, Any]) -> None:
    assert decoded(encoded(plain)) == (plain, frozenset())


@given(objects, st.data())
def test_secrets_stay_where_they_are(plain: dict[str, Any], data: st.DataObject) -> None:
    names = data.draw(st.frozensets(st.sampled_from(sorted(plain)))) if plain else frozenset()
    secrets = frozenset((name,) for name in names)
    assert decoded(encoded(plain, secrets)) == (plain, secrets)


@given(objects, st.booleans())
def test_each_value_is_found_by_itself(plain: dict[str, Any], secret: bool) -> None:  # noqa: FBT001
    secrets = frozenset((name,) for name in plain) if secret else frozenset()
    properties = encoded(plain, secrets)
    assert {name: value_in(properties, name) for name in plain} == plain
    assert value_in(properties, "of nine letters") is None
    assert properties == encoded(plain, secrets)


def test_secrets_inside_of_lists_and_objects_are_found() -> None:
    plain = {"a": [{"b": "x"}, {"b": "y"}]}
    secrets = frozenset({("a", 1, "b")})
    assert decoded(encoded(plain, secrets)) == (plain, secrets)


def test_a_secret_that_leads_nowhere_is_of_no_effect() -> None:
    assert decoded(encoded({"a": 1}, frozenset({("b",)}))) == ({"a": 1}, frozenset())


def test_whole_numbers_are_integers_again() -> None:
    plain, _ = decoded(encoded({"port": 8054, "ratio": 0.5}))
    assert [repr(plain["port"]), repr(plain["ratio"])] == ["8054", "0.5"]


@given(values)
def test_an_unknown_is_found_however_deep(value: Any) -> None:  # noqa: ANN401
    assert has_unknown({"a": [{"b": UNKNOWN}, value]})
    assert not has_unknown(value)
