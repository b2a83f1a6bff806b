"""Graphs, differences and explanations as plain lines of text, for terminals and pipes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from zt.diff import Diff
from zt.explain import Explanation, Statement
from zt.graph import Edge, Graph
from zt.model import Phase
from zt.position import NOWHERE
from zt.render.names import short_names
from zt.render.sections import Section, sections, summary


def graph_text(graph: Graph) -> str:
    """A line for each edge."""
    names = short_names(node.id for node in graph.nodes)
    return _lines(_columns([_edge(edge, names) for edge in graph.edges]))


def _edge(edge: Edge, names: dict[str, str]) -> tuple[str, ...]:
    notes = ["across clusters"] if edge.crosses else []
    if edge.phase is not Phase.ENFORCE:
        notes.append(str(edge.phase))
    ends = names[edge.source], "->", names[edge.destination]
    return *ends, ", ".join(map(str, edge.ports)), ", ".join(edge.rules), ", ".join(notes)


def diff_text(diff: Diff) -> str:
    """The summary, then a table for each kind of difference."""
    return _lines([summary(diff), *(line for part in sections(diff) for line in _section(part))])


def _section(section: Section) -> Iterator[str]:
    yield ""
    yield section.title
    for line in _columns([section.headers, *section.rows]):
        yield f"{section.sign} {line}"


def explanation_text(explanation: Explanation) -> str:
    """Verdict, rule, planes; what would help, where it is refused."""
    decision = explanation.decision
    ends = f"{explanation.source} -> {explanation.destination} port {explanation.port}"
    lines = [
        f"{decision.verdict} {ends}",
        f"  rule   {decision.rule}{_at(explanation)}",
        f"  reason {decision.reason}",
        f"  phase  {explanation.phase}{_consequence(explanation)}",
        "",
    ]
    width = max(len(statement.plane) for statement in explanation.planes)
    for statement in explanation.planes:
        lines.extend(_statement(statement, width))
    for hint in explanation.hints:
        where = f" ({hint.where})" if hint.where != NOWHERE else ""
        lines += ["", f"{hint.message}{where}"]
        lines += [f"    {line}" for line in hint.snippet.splitlines()]
    return _lines(lines)


def _at(explanation: Explanation) -> str:
    rule = explanation.rule
    if rule is None:
        return ""
    description = f": {rule.rule.description}" if rule.rule.description else ""
    return f" at {rule.rule.where}{description}"


def _consequence(explanation: Explanation) -> str:
    if explanation.allowed or explanation.phase is Phase.ENFORCE:
        return ""
    if explanation.phase is Phase.CANARY:
        return ": one replica refuses it, the others let it pass and record it"
    return ": it passes all the same, and is recorded"


def _statement(statement: Statement, width: int) -> Iterator[str]:
    yield f"  {statement.plane:{width}}  {statement.stance:7}  {statement.why}"
    if statement.weaker:
        yield f"  {'':{width}}  {'':7}  weaker: {statement.weaker}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their cells under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
