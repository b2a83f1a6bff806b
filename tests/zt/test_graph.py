"""The graph against the decision."""

from itertools import product

from hypothesis import given, settings

from tests.strategies import TODAY, documents, policies
from zt.decide import Verdict, decide, decision_table
from zt.effective import effective
from zt.graph import graph, parties
from zt.load import assemble, load_policy
from zt.model import Phase, Policy


@settings(max_examples=100)
@given(policies())
def test_edges_are_what_decide_allows_with_the_rule_that_it_names(policy: Policy) -> None:
    table = decision_table(policy, TODAY)
    wanted = {}
    for source, destination in product(table.ports, repeat=2):
        for port in table.ports[destination]:
            decision = decide(table, source, destination, port)
            if decision.verdict is Verdict.ALLOW:
                wanted[source, destination, port] = decision.rule

    found = graph(effective(policy, TODAY))

    assert wanted == {
        (edge.source, edge.destination, port): rule
        for edge in found.edges
        for port, rule in edge.grants
    }


@settings(max_examples=50)
@given(policies())
def test_every_party_is_one_node_and_every_pair_one_edge(policy: Policy) -> None:
    resolved = effective(policy, TODAY)

    found = graph(resolved)

    assert [node.id for node in found.nodes] == list(parties(resolved))
    pairs = [(edge.source, edge.destination) for edge in found.edges]
    assert len(pairs) == len(set(pairs))


@settings(max_examples=50)
@given(policies())
def test_edges_have_the_phase_of_the_end_that_enforces_them(policy: Policy) -> None:
    table = decision_table(policy, TODAY)

    for edge in graph(effective(policy, TODAY)).edges:
        enforcer = edge.destination if edge.destination in table.phases else edge.source
        assert edge.phase is table.phases[enforcer]


@settings(max_examples=50)
@given(policies())
def test_the_order_of_documents_does_not_matter(policy: Policy) -> None:
    shuffled = assemble(documents(policy)[::-1])

    assert graph(effective(policy, TODAY)) == graph(effective(shuffled, TODAY))


def test_the_real_policy_crosses_from_lux_to_hanzo() -> None:
    found = graph(effective(load_policy("policies"), TODAY))

    crossing = {edge.source.rpartition("/")[2] for edge in found.edges if edge.crosses}

    assert crossing == {"deploy", "prometheus", "validator", "zt-policy-engine"}
    assert {edge.phase for edge in found.edges} == {Phase.ENFORCE}
