"""The metrics that the evaluator exports: HIP-54's by its names, and its own."""

from __future__ import annotations

from dataclasses import dataclass

# A family's name and the values of its labels.
Series = tuple[str, ...]

# The source and the destination of decisions that no series was left for.
OTHER = "other"

DECISIONS = "zt_decisions_total"
DURATION = "zt_evaluation_duration_seconds"
BUCKETED = "zt_evaluation_seconds"
ROTATIONS = "zt_svid_rotations_total"
WITHOUT_IDENTITY = "zt_refused_without_identity_total"
UNKNOWN_CALLERS = "zt_unknown_callers_total"
RELOADS = "zt_policy_reloads_total"
READY = "zt_policy_ready"
STALE = "zt_policy_stale"
LOADED = "zt_policy_loaded_timestamp_seconds"
POLICY = "zt_policy_info"
AUDIT = "zt_audit_available"
APPEND_FAILURES = "zt_audit_append_failures_total"
LOST = "zt_audit_lost_total"
SPOOL_BYTES = "zt_audit_spool_bytes"
SPOOL_AGE = "zt_audit_spool_oldest_seconds"
ROWS = "zt_audit_rows_total"
FAILING = "zt_audit_drainer_failing"
REDATED = "zt_audit_redated_total"
COMMITTED = "zt_audit_last_commit_timestamp_seconds"
OVERFLOWS = "zt_metrics_overflows_total"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its kind, what it tells, and its labels."""

    kind: str
    text: str
    labels: tuple[str, ...] = ()


FAMILIES = {
    DECISIONS: Family("counter", "Access decisions.", ("decision", "source", "dest")),
    DURATION: Family(
        "summary",
        "Time to decide, with the record's append, over the last minute; sum and count are of all.",
        ("quantile",),
    ),
    BUCKETED: Family("histogram", "The same, to be added up over replicas.", ("le",)),
    ROTATIONS: Family(
        "counter", "Changed certificates of a service, as it presents them.", ("service",)
    ),
    WITHOUT_IDENTITY: Family("counter", "Refused peers that showed no identity.", ("reason",)),
    UNKNOWN_CALLERS: Family(
        "counter", "Callers of the evaluator who were turned away.", ("reason",)
    ),
    READY: Family("gauge", "Whether a policy is in force."),
    STALE: Family("gauge", "Whether a bad change of the policy was left out."),
    POLICY: Family("gauge", "The policy in force.", ("revision",)),
    LOADED: Family("gauge", "When the policy came into force."),
    RELOADS: Family("counter", "Changes of the policy, by how they ended.", ("result",)),
    AUDIT: Family("gauge", "Whether decisions can be recorded."),
    APPEND_FAILURES: Family("counter", "Records that could not be appended to the spool."),
    LOST: Family(
        "counter", "Connections that were allowed without a record, and records that were lost."
    ),
    SPOOL_BYTES: Family(
        "gauge", "Bytes of records in the spool; a segment goes once all of it is committed."
    ),
    SPOOL_AGE: Family("gauge", "For how long a record has been waiting for the database."),
    ROWS: Family("counter", "Records that were committed to the database."),
    COMMITTED: Family("gauge", "When records were last committed to the database."),
    FAILING: Family("gauge", "Whether records cannot be committed now."),
    REDATED: Family("counter", "Records that were committed under a later time than their own."),
    OVERFLOWS: Family("counter", "Counts that had to share a series, because there are so many."),
}

# These have their cells from the start, because they matter most when nothing can be written.
FIXED: tuple[Series, ...] = (
    (DECISIONS, "allow", OTHER, OTHER),
    (DECISIONS, "deny", OTHER, OTHER),
    (OVERFLOWS,),
    (LOST,),
    (APPEND_FAILURES,),
)
