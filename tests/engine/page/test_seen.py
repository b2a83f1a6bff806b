from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.audit.reader import Edge
from engine.page.graph import declared
from engine.page.seen import Declared, Kind, Stray, Traffic, undeclared_nodes, view
from tests.engine.samples import API, CAUTIOUS, DB, NEW, TODAY, WEB, in_force, policy
from zt.decide import Verdict
from zt.effective import effective

NOW = datetime(2026, 11, 24, tzinfo=UTC)
GRAPH = declared(effective(policy(), TODAY))
TABLE = in_force().table
PARTIES = st.sampled_from([WEB, API, DB, NEW, CAUTIOUS, "external:internet", "spiffe://x/a/b/c"])
COUNTS = st.integers(0, 5)


@st.composite
def edges(draw: st.DrawFn) -> list[Edge]:
    keys = st.tuples(st.none() | PARTIES, PARTIES, st.sampled_from([22, 5432]))
    found = []
    for source, destination, port in draw(st.lists(keys, unique=True, max_size=20)):
        would_deny = draw(COUNTS)
        seen = NOW - timedelta(seconds=draw(st.integers(0, 1000)))
        allowed, denied = would_deny + draw(COUNTS), draw(COUNTS)
        found.append(Edge(source, destination, port, allowed, denied, would_deny, seen))
    return found


def edge(source: str | None, destination: str, allowed: int = 0, denied: int = 0) -> Edge:
    return Edge(source, destination, 5432, allowed, denied, allowed, NOW)


@given(edges())
def test_every_call_is_on_the_page_once(seen: list[Edge]) -> None:
    found = view(GRAPH, TABLE, seen)
    edges: list[Declared | Stray] = [*found.declared, *found.strays]
    shown = sum((edge.traffic for edge in edges), Traffic())
    assert shown.allowed == sum(edge.allowed for edge in seen)
    assert shown.denied == sum(edge.denied for edge in seen)
    assert shown.would_deny == sum(edge.would_deny for edge in seen)
    assert shown.last_seen == max((edge.last_seen for edge in seen), default=None)


@given(edges())
def test_an_edge_is_what_the_policy_in_force_makes_of_it(seen: list[Edge]) -> None:
    found = view(GRAPH, TABLE, seen)
    shown = {(e.source, e.destination, port, e.kind) for e in found.strays for port in e.by_port}
    expected = {
        (
            edge.source or "",
            edge.destination,
            edge.port,
            Kind.REFUSED if edge.denied else Kind.UNDECLARED,
        )
        for edge in seen
        if TABLE.decide(edge.source or "", edge.destination, edge.port).verdict is Verdict.DENY
    }
    assert shown == expected
    assert all(e.kind is Kind.SEEN for e in found.declared if e.by_port)
    assert len(found.declared) == len(GRAPH["edges"])


def test_what_was_refused_comes_first_and_then_what_happened_most() -> None:
    seen = [edge(DB, WEB, 9), edge(API, WEB, 0, 1), edge(None, DB, 0, 3), edge(DB, API, 20)]
    found = view(GRAPH, TABLE, seen).strays
    assert [(stray.source, stray.kind) for stray in found] == [
        ("", Kind.REFUSED),
        (API, Kind.REFUSED),
        (DB, Kind.UNDECLARED),
        (DB, Kind.UNDECLARED),
    ]
    assert [stray.destination for stray in found[2:]] == [API, WEB]


def test_a_granted_edge_that_was_refused_is_troubled() -> None:
    drawn = view(GRAPH, TABLE, [edge(WEB, DB, 0, 2), edge(WEB, API, 3)]).declared
    [found] = [edge for edge in drawn if edge.troubled]
    assert (found.source, found.destination, found.kind) == (WEB, DB, Kind.SEEN)


def test_parties_that_the_policy_does_not_know_are_told_once() -> None:
    strays = view(GRAPH, TABLE, [edge(None, DB), edge("spiffe://x", DB), edge(None, WEB)]).strays
    assert undeclared_nodes(GRAPH["nodes"], strays) == ["", "spiffe://x"]
    assert isinstance(strays[0], Stray)
    assert not isinstance(strays[0], Declared)


def test_no_more_strays_are_shown_than_can_be_looked_at() -> None:
    found = view(GRAPH, TABLE, [edge(f"spiffe://x/{number}", DB, 1) for number in range(500)])
    assert len(found.strays) == 200
    assert found.found == {Kind.UNDECLARED: 500}
