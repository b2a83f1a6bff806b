from hypothesis import given
from hypothesis import strategies as st

from zt.render.names import short_names

LABELS = st.sampled_from(["a", "b", "c"])
IDS = st.builds(lambda *path: f"spiffe://x.y/{'/'.join(path)}", LABELS, LABELS, LABELS)


@given(st.lists(IDS | st.sampled_from(["external:a", "external:b"])))
def test_no_two_parties_share_a_short_name(ids: list[str]) -> None:
    found = short_names(ids)

    assert set(found) == set(ids)
    assert len(set(found.values())) == len(set(ids))
    assert all(name.endswith(short.rpartition("/")[2]) for name, short in found.items())


def test_a_name_is_as_short_as_it_can_be() -> None:
    found = short_names(["spiffe://h/east/web/a", "spiffe://h/west/web/a", "spiffe://h/east/web/b"])

    assert list(found.values()) == ["east/a", "b", "west/a"]
