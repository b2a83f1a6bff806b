"""The page at ``/``: the service graph that the policy declares, and what was seen of late."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from html import escape

import psycopg

from engine.policy.store import PolicyStore, Snapshot
from engine.audit.reader import AuditReader, Edge
from zt.graph import graph
from zt.render.svg import svg

_SEEN = timedelta(hours=24)
_HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Hanzo ZT</title>
<style>
body{font:14px/1.45 ui-sans-serif,system-ui,"Helvetica Neue",Arial,sans-serif;margin:2rem;
color:#0f172a}
table{border-collapse:collapse}
th,td{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #e2e8f0}
td.count{text-align:right}
tr.refused td{color:#b91c1c}
.problem{color:#b91c1c}
.graph{overflow-x:auto}
</style>
</head>
<body>
<h1>Hanzo ZT</h1>
"""
_COLUMNS = ("Source", "Destination", "Port", "Allowed", "Refused", "Would be refused", "Last seen")


async def page(store: PolicyStore, reader: AuditReader) -> str:
    """The page as HTML; it needs neither scripts nor other servers."""
    try:
        edges = await reader.edges(datetime.now(UTC) - _SEEN)
    except psycopg.Error:
        seen = ['<p class="problem">The audit trail cannot be read now.</p>']
    else:
        seen = list(_table(edges))
    problems = [f'<p class="problem">{escape(str(problem))}</p>' for problem in store.problems]
    return "\n".join([_HEAD, *_policy(store.current), *problems, *seen, "</body>", "</html>"])


def _policy(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.effective is None:
        yield '<p class="problem">No policy is in force: everything is refused.</p>'
        return
    yield f"<p>Policy revision <code>{escape(snapshot.revision)}</code></p>"
    yield f'<div class="graph">{svg(graph(snapshot.effective))}</div>'


def _table(edges: Iterable[Edge]) -> Iterator[str]:
    yield "<h2>Seen in the last 24 hours</h2>"
    yield "<table>"
    yield "<tr>" + "".join(f"<th>{name}</th>" for name in _COLUMNS) + "</tr>"
    yield from map(_row, edges)
    yield "</table>"


def _row(edge: Edge) -> str:
    names = (edge.source or "nobody known", edge.destination)
    counts = (edge.port, edge.allowed, edge.denied, edge.would_deny)
    cells = [
        *(f"<td>{escape(name)}</td>" for name in names),
        *(f'<td class="count">{count}</td>' for count in counts),
        f"<td>{edge.last_seen.astimezone(UTC):%Y-%m-%d %H:%M:%S}</td>",
    ]
    kind = ' class="refused"' if edge.denied or edge.would_deny else ""
    return f"<tr{kind}>{''.join(cells)}</tr>"
