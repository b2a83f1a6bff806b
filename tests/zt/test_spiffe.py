"""SPIFFE IDs and patterns."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt.model import Cluster, Mesh, Service, matches_service
from zt.spiffe import SpiffePattern, parse_pattern, spiffe_id
from zt.values import parse_network

SEGMENTS = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,5}[a-z0-9])?", fullmatch=True)
FEW = st.sampled_from(("a", "b", "*"))
PATTERNS = st.builds(SpiffePattern, st.sampled_from(("hanzo.ai", "lux.network")), FEW, FEW, FEW)
MESH = Mesh(
    "mesh",
    "hanzo.ai",
    (Cluster("a", parse_network("10.0.0.0/16"), parse_network("10.1.0.0/16")),),
)


@given(SEGMENTS, SEGMENTS | st.just("*"), SEGMENTS | st.just("*"), SEGMENTS | st.just("*"))
def test_an_id_is_read_as_it_is_written(
    domain: str, cluster: str, namespace: str, account: str
) -> None:
    text = f"spiffe://{domain}/{cluster}/{namespace}/{account}"
    pattern = parse_pattern(text)
    assert str(pattern) == text == spiffe_id(domain, cluster, namespace, account)
    assert pattern.segments == (cluster, namespace, account)
    assert pattern.is_exact == ("*" not in text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a SPIFFE ID: it should start with 'spiffe://'"),
        (
            "SPIFFE://hanzo.ai/a/b/c",
            "'SPIFFE://hanzo.ai/a/b/c' is not a SPIFFE ID: it should start with 'spiffe://'",
        ),
        (
            "spiffe:///a/b/c",
            "'spiffe:///a/b/c': '' is not a trust domain such as 'hanzo.ai'",
        ),
        (
            "spiffe://hanzo.ai",
            (
                "'spiffe://hanzo.ai' has 0 path segments instead of 3: it should be "
                "spiffe://<trust domain>/<cluster>/<namespace>/<service account>"
            ),
        ),
        (
            "spiffe://hanzo.ai/a/b/c/",
            (
                "'spiffe://hanzo.ai/a/b/c/' has 4 path segments instead of 3: it should be "
                "spiffe://<trust domain>/<cluster>/<namespace>/<service account>"
            ),
        ),
        (
            "spiffe://hanzo.ai/ns/b/sa/c",
            (
                "'spiffe://hanzo.ai/ns/b/sa/c' does not name a cluster: it should be "
                "'spiffe://hanzo.ai/<cluster>/b/c'"
            ),
        ),
        (
            "spiffe://hanzo.ai/a//c",
            (
                "'spiffe://hanzo.ai/a//c': segment '' should be lower-case letters, digits, '-' "
                "and '.'"
            ),
        ),
        (
            "spiffe://hanzo.ai/a/../c",
            (
                "'spiffe://hanzo.ai/a/../c': segment '..' should be lower-case letters, digits, "
                "'-' and '.'"
            ),
        ),
        (
            "spiffe://hanzo.ai/a/b/**",
            "'spiffe://hanzo.ai/a/b/**': '*' may stand for one whole path segment, not for '**'",
        ),
        (
            "spiffe://hanzo.ai:443/a/b/c",
            (
                "'spiffe://hanzo.ai:443/a/b/c': 'hanzo.ai:443' is not a trust domain such as "
                "'hanzo.ai'"
            ),
        ),
    ],
)
def test_what_is_no_id_is_told_what_it_should_be(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse_pattern(text)
    assert str(raised.value) == message


@given(st.text(max_size=60) | st.text(max_size=40).map("spiffe://hanzo.ai/".__add__))
def test_any_text_is_an_id_or_a_value_error(text: str) -> None:
    try:
        pattern = parse_pattern(text)
    except ValueError:
        return
    assert str(pattern) == text


def identities(pattern: SpiffePattern) -> set[str]:
    """All IDs that a pattern names, of segments 'a', 'b' and one that no pattern knows."""
    choices = [("a", "b", "x") if segment == "*" else (segment,) for segment in pattern.segments]
    return {spiffe_id(pattern.trust_domain, *segments) for segments in product(*choices)}


@given(PATTERNS, PATTERNS)
def test_a_pattern_matches_what_names_no_more_than_it(
    one: SpiffePattern, other: SpiffePattern
) -> None:
    assert one.matches(other) == (identities(other) <= identities(one))


@given(PATTERNS, st.tuples(*[st.sampled_from(("a", "b"))] * 3))
def test_a_pattern_matches_a_service_by_its_id(
    pattern: SpiffePattern, place: tuple[str, str, str]
) -> None:
    cluster, namespace, account = place
    service = Service("name", cluster, namespace, service_account=account)
    assert matches_service(pattern, service, MESH) == (service.spiffe(MESH) in identities(pattern))
