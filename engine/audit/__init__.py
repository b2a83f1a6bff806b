"""The audit trail: appended to a local spool, drained into PostgreSQL, chained, read, verified."""
