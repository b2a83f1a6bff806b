"""The SQL of whoever reads the trail.

Decisions have two indexes: (time, id), and (outcome, time). Which one serves a filter depends on
how frequent the matching outcomes are, and a partition of today has no statistics yet. So no
statement leaves it to the planner: each can be answered from one index alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg import sql

from engine.audit.outcome import COLUMNS
from engine.audit.query import Query

Statement = tuple[sql.Composed, dict[str, Any]]

# More outcomes than these are not looked up one by one.
MANY = 20_000
# Reading so many decisions takes the database some 10 ms.
_EXAMINED = 50_000
_EXAMINED_PER_RECORD = 20
_INSTANT = timedelta(microseconds=1)

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
_OUTCOMES = sql.SQL("SELECT id FROM zt_audit.outcome WHERE {where} LIMIT {most}")
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
# With JOINED the latest keep their order, so that it ends with the limit.
_AMONG_LATEST_JOINED = sql.SQL(
    "SELECT latest.id, latest.time, latest.latency_us, {outcome} FROM ("
    "SELECT id, time, outcome, latency_us FROM zt_audit.decision WHERE {window} "
    "ORDER BY time DESC, id DESC LIMIT %(examined)s) AS latest "
    "JOIN zt_audit.outcome ON outcome.id = latest.outcome AND {where} "
    "ORDER BY latest.time DESC, latest.id DESC LIMIT %(limit)s"
)
JOINED = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
_LAST_EXAMINED = sql.SQL(
    "SELECT time, id FROM zt_audit.decision WHERE {window} "
    "ORDER BY time DESC, id DESC OFFSET %(skipped)s LIMIT 1"
)
# One look into each day's index. The list is hidden from the planner, who would estimate each of
# its items against each day.
_LATEST_DAY = sql.SQL(
    "SELECT day FROM (SELECT to_date(right(relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' "
    "AS day FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
    "WHERE inhparent = 'zt_audit.decision'::regclass AND relname ~ '^decision_[0-9]{{8}}$' "
    "ORDER BY 1 DESC) AS days CROSS JOIN LATERAL (SELECT FROM zt_audit.decision "
    "WHERE time >= day AND time < day + interval '1 day' "
    "AND outcome = ANY(ARRAY(SELECT unnest(%(outcomes)s::uuid[]) ORDER BY 1)) LIMIT 1) AS found "
    "WHERE (%(before)s::timestamptz IS NULL OR day < %(before)s) "
    "AND (%(since)s::timestamptz IS NULL OR day > %(since)s - interval '1 day') "
    "ORDER BY day DESC LIMIT 1"
).format()
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
    """IDs of the outcomes that match, ``MANY`` at most; ``None`` where every one does."""
    where, values = _where(query)
    if not values:
        return None
    return _OUTCOMES.format(where=where, most=sql.Literal(MANY)), values


def latest(query: Query) -> Statement:
    """The latest records, whatever their outcome."""
    window, values = _window(query)
    found = _LATEST.format(window=window)
    return _RECORDS.format(outcome=_OUTCOME, found=found), values


def among_latest(query: Query, wanted: Sequence[UUID]) -> Statement:
    """Records of some outcomes among the latest: maybe not as many as there are."""
    window, values = _window(query)
    found = _AMONG_LATEST.format(window=window)
    statement = _RECORDS.format(outcome=_OUTCOME, found=found)
    return statement, values | {"outcomes": wanted, "examined": examined(query)}


def among_latest_joined(query: Query, number: int) -> Statement:
    """The same for any number of outcomes, in a transaction with ``JOINED``."""
    window, values = _window(query)
    where, wanted = _where(query)
    statement = _AMONG_LATEST_JOINED.format(outcome=_OUTCOME, window=window, where=where)
    return statement, values | wanted | {"examined": number}


def last_examined(query: Query, number: int) -> Statement:
    """Time and ID of the last one of so many decisions, if there are so many."""
    window, values = _window(query)
    return _LAST_EXAMINED.format(window=window), values | {"skipped": number - 1}


def latest_day(query: Query, wanted: Sequence[UUID]) -> Statement:
    """The beginning of the latest day with decisions of some outcomes, about the query's times."""
    ends = [query.until] if query.until else []
    if query.after:
        ends.append(query.after.time + _INSTANT)
    values = {"outcomes": wanted, "since": query.since, "before": min(ends, default=None)}
    return _LATEST_DAY, values


def of_each(query: Query, wanted: Sequence[UUID], share: int) -> Statement:
    """Records of some outcomes, from the latest ``share`` of each.

    A last column says whether there may be more than these and the query's limit is not to blame.
    """
    window, values = _window(query)
    statement = _OF_EACH.format(window=window, outcome=_OUTCOME)
    return statement, values | {"outcomes": wanted, "share": share}


def examined(query: Query) -> int:
    """Among how many of the latest decisions to look for a page."""
    return max(_EXAMINED, _EXAMINED_PER_RECORD * query.limit)


def _where(query: Query) -> tuple[sql.Composable, dict[str, Any]]:
    """The query's outcomes as a condition, and its values; without any, every outcome is meant."""
    values = {
        name: getattr(query, name)
        for name in _OUTCOME_CONDITIONS
        if getattr(query, name) is not None
    }
    return sql.SQL(" AND ").join(map(_OUTCOME_CONDITIONS.__getitem__, values)), values


def _window(query: Query) -> tuple[sql.Composable, dict[str, Any]]:
    """The query's times as a condition, and the values of that and the limit."""
    values: dict[str, Any] = {"since": query.since, "until": query.until}
    if query.after:
        values |= {"after_time": query.after.time, "after_id": query.after.id}
    given = {name: value for name, value in values.items() if value is not None}
    conditions = [_WINDOW_CONDITIONS[name] for name in given if name in _WINDOW_CONDITIONS]
    window = sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")
    return window, given | {"limit": query.limit}
