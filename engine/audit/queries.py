"""The SQL of whoever reads the trail.

Decisions have two indexes: (time, id), and (outcome, time). Which one serves a filter depends on
how frequent the matching outcomes are, and a partition of today has no statistics yet. So no
statement leaves it to the planner: each can be answered from one index alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg import sql

from engine.audit.outcome import COLUMNS

if TYPE_CHECKING:
    from engine.audit.reader import Query

Statement = tuple[sql.Composed, dict[str, Any]]

# Reading so many decisions takes the database some 10 ms.
_EXAMINED = 50_000
_EXAMINED_PER_RECORD = 20

_OUTCOME_CONDITIONS: Mapping[str, sql.SQL] = {
    "verdict": sql.SQL("verdict = %(verdict)s"),
    "source": sql.SQL("source_id IS NOT DISTINCT FROM nullif(%(source)s, '')"),
    "destination": sql.SQL("destination_id = %(destination)s"),
    "rule": sql.SQL("rule = %(rule)s"),
    "pod": sql.SQL("source_pod = %(pod)s"),
    "layer": sql.SQL("layer = %(layer)s"),
    "reason": sql.SQL("reason = %(reason)s"),
}
# The first condition of a cursor says nothing new, but partitions are pruned by it.
_WINDOW_CONDITIONS: Mapping[str, sql.SQL] = {
    "since": sql.SQL("time >= %(since)s"),
    "until": sql.SQL("time < %(until)s"),
    "after_time": sql.SQL("time <= %(after_time)s AND (time, id) < (%(after_time)s, %(after_id)s)"),
}
_OUTCOME = sql.SQL(", ").join(sql.Identifier("outcome", column) for column in COLUMNS)
_OUTCOMES = sql.SQL("SELECT id FROM zt_audit.outcome WHERE {where}")
_LATEST = sql.SQL(
    "SELECT id, time, outcome, latency_us FROM zt_audit.decision WHERE {window} "
    "ORDER BY time DESC, id DESC LIMIT %(limit)s"
)
_AMONG_LATEST = sql.SQL(
    "SELECT * FROM (SELECT id, time, outcome, latency_us FROM zt_audit.decision WHERE {window} "
    "ORDER BY time DESC, id DESC LIMIT %(examined)s) AS latest "
    "WHERE outcome = ANY(%(outcomes)s) ORDER BY time DESC, id DESC LIMIT %(limit)s"
)
_RECORDS = sql.SQL(
    "SELECT found.id, found.time, found.latency_us, {outcome} FROM ({found}) AS found "
    "JOIN zt_audit.outcome ON outcome.id = found.outcome ORDER BY found.time DESC, found.id DESC"
)
# Where an outcome has its whole share, older ones of it may be missing: what is complete begins at
# the latest such end. Ordered by time alone, because that order only one of the indexes has.
_OF_EACH = sql.SQL(
    "WITH found AS MATERIALIZED ("
    "SELECT decision.* FROM unnest(%(outcomes)s::uuid[]) AS wanted (id) CROSS JOIN LATERAL ("
    "SELECT id, time, outcome, latency_us FROM zt_audit.decision "
    "WHERE outcome = wanted.id AND {window} "
    "ORDER BY time DESC FETCH FIRST (%(share)s) ROWS WITH TIES) AS decision), "
    "complete AS (SELECT max(oldest) AS since FROM (SELECT min(time) AS oldest FROM found "
    "GROUP BY outcome HAVING count(*) >= %(share)s) AS shares) "
    "SELECT found.id, found.time, found.latency_us, {outcome}, complete.since IS NOT NULL "
    "FROM complete JOIN found ON complete.since IS NULL OR found.time >= complete.since "
    "JOIN zt_audit.outcome ON outcome.id = found.outcome "
    "ORDER BY found.time DESC, found.id DESC LIMIT %(limit)s"
)
RECORD = sql.SQL(
    "SELECT decision.id, time, latency_us, {outcome} FROM (SELECT since, until FROM zt_audit.batch "
    "WHERE writer = %(writer)s AND first <= %(sequence)s AND last >= %(sequence)s "
    "ORDER BY first DESC LIMIT 1) AS batch JOIN zt_audit.decision "
    "ON time BETWEEN since AND until AND decision.id = %(id)s "
    "JOIN zt_audit.outcome ON outcome.id = decision.outcome"
).format(outcome=_OUTCOME)
EDGES = sql.SQL(
    "SELECT nullif(source_id, '') AS source, destination_id AS destination, "
    "destination_port AS port, sum(allowed)::bigint AS allowed, sum(denied)::bigint AS denied, "
    "sum(would_deny)::bigint AS would_deny, max(last_seen) AS last_seen "
    "FROM zt_audit.edge_count WHERE span = %(span)s "
    "AND (%(since)s::timestamptz IS NULL OR start >= date_trunc(%(span)s, %(since)s, 'UTC')) "
    "GROUP BY 1, 2, 3 HAVING %(since)s::timestamptz IS NULL OR max(last_seen) >= %(since)s "
    "ORDER BY 1, 2, 3"
)


def outcomes(query: Query) -> Statement | None:
    """IDs of the outcomes that match; ``None`` where every one does."""
    names = [name for name in _OUTCOME_CONDITIONS if getattr(query, name) is not None]
    if not names:
        return None
    where = sql.SQL(" AND ").join(_OUTCOME_CONDITIONS[name] for name in names)
    return _OUTCOMES.format(where=where), {name: getattr(query, name) for name in names}


def latest(query: Query) -> Statement:
    """The latest records, whatever their outcome."""
    window, values = _window(query)
    found = _LATEST.format(window=window)
    return _RECORDS.format(outcome=_OUTCOME, found=found), values


def among_latest(query: Query, wanted: Sequence[UUID]) -> Statement:
    """Records of some outcomes among the latest: maybe not as many as there are."""
    window, values = _window(query)
    examined = max(_EXAMINED, _EXAMINED_PER_RECORD * query.limit)
    found = _AMONG_LATEST.format(window=window)
    statement = _RECORDS.format(outcome=_OUTCOME, found=found)
    return statement, values | {"outcomes": wanted, "examined": examined}


def of_each(query: Query, wanted: Sequence[UUID], share: int) -> Statement:
    """Records of some outcomes, from the latest ``share`` of each.

    A last column says whether there may be more than these and the query's limit is not to blame.
    """
    window, values = _window(query)
    statement = _OF_EACH.format(window=window, outcome=_OUTCOME)
    return statement, values | {"outcomes": wanted, "share": share}


def _window(query: Query) -> tuple[sql.Composable, dict[str, Any]]:
    """The query's times as a condition, and the values of that and the limit."""
    values: dict[str, Any] = {"since": query.since, "until": query.until}
    if query.after:
        values |= {"after_time": query.after.time, "after_id": query.after.id}
    given = {name: value for name, value in values.items() if value is not None}
    conditions = [_WINDOW_CONDITIONS[name] for name in given if name in _WINDOW_CONDITIONS]
    window = sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")
    return window, given | {"limit": query.limit}
