"""Graphs, differences and explanations as JSON values, for programs; their names are stable."""

from __future__ import annotations

from typing import Any

from zt.diff import AgentRight, Diff, OperatorRight, PhaseChange, Reach, RoleHolder
from zt.explain import Explanation, Hint
from zt.graph import Edge, Graph, Node
from zt.position import NOWHERE, Where

Json = dict[str, Any]


def graph_data(graph: Graph) -> Json:
    """Nodes and edges."""
    return {"nodes": [*map(_node, graph.nodes)], "edges": [*map(_edge, graph.edges)]}


def _node(node: Node) -> Json:
    return {
        "id": node.id,
        "name": node.name,
        "cluster": node.cluster or None,
        "namespace": node.namespace or None,
        "ports": [{"port": port.port, "protocol": port.protocol} for port in node.ports],
        "phase": node.phase,
        "critical": node.critical,
    }


def _edge(edge: Edge) -> Json:
    return {
        "source": edge.source,
        "destination": edge.destination,
        "grants": [{"port": port, "rule": rule} for port, rule in edge.grants],
        "crosses": edge.crosses,
        "phase": edge.phase,
    }


def diff_data(diff: Diff) -> Json:
    """All parts of a difference; ``changes_access`` is what the exit code of ``zt diff`` says."""
    return {
        "changes_access": diff.changes_access,
        "gained": [*map(_reach, diff.gained)],
        "lost": [*map(_reach, diff.lost)],
        "moved": [_reach(moved.reach) | {"old_rule": moved.old_rule} for moved in diff.moved],
        "phases": [*map(_phase, diff.phases)],
        "added": list(diff.added),
        "removed": list(diff.removed),
        "rights_gained": [*map(_right, diff.rights_gained)],
        "rights_lost": [*map(_right, diff.rights_lost)],
        "changes": [
            {
                "subject": change.subject,
                "field": change.field,
                "old": change.old,
                "new": change.new,
                "access": change.access,
            }
            for change in diff.changes
        ],
    }


def _reach(reach: Reach) -> Json:
    return {
        "source": reach.source,
        "destination": reach.destination,
        "port": reach.port,
        "rule": reach.rule,
        **_where(reach.where),
        "phase": reach.phase,
        "crosses": reach.crosses,
    }


def _phase(change: PhaseChange) -> Json:
    return {
        "service": change.service,
        "old": change.old,
        "new": change.new,
        "granted": list(change.granted),
    }


def _right(right: OperatorRight | RoleHolder | AgentRight) -> Json:
    if isinstance(right, OperatorRight):
        return {
            "kind": "operator",
            "role": right.role,
            "action": right.action,
            "service": right.service,
            "conditions": list(right.conditions),
            "rule": right.rule,
        }
    if isinstance(right, RoleHolder):
        return {
            "kind": "role",
            "role": right.role,
            "holder": right.holder,
            "binding": right.binding,
        }
    return {
        "kind": "agent",
        "client_id": right.client_id,
        "service": right.service,
        "port": right.port,
        "path": right.path,
        "methods": list(right.methods),
        "policy": right.policy,
    }


def explanation_data(explanation: Explanation) -> Json:
    """A decision, its rule, what each plane says, and hints."""
    decision, rule = explanation.decision, explanation.rule
    return {
        "source": explanation.source,
        "destination": explanation.destination,
        "port": explanation.port,
        "verdict": decision.verdict,
        "reason": decision.reason,
        "rule": decision.rule,
        **_where(rule.rule.where if rule else NOWHERE),
        "phase": explanation.phase,
        "planes": [
            {
                "plane": statement.plane,
                "stance": statement.stance,
                "why": statement.why,
                "weaker": statement.weaker or None,
            }
            for statement in explanation.planes
        ],
        "hints": [*map(_hint, explanation.hints)],
    }


def _hint(hint: Hint) -> Json:
    return {"message": hint.message, **_where(hint.where), "snippet": hint.snippet or None}


def _where(where: Where) -> Json:
    if where == NOWHERE:
        return {"file": None, "line": None, "column": None}
    return {"file": where.file, "line": where.line, "column": where.column}
