"""The audit database, its schema, and how long it keeps what it has (HIP-54, "Audit Trail").

It is a PostgreSQL in the cluster, a managed one on DigitalOcean, or one that exists. Each gives the
evaluator a DSN in a Secret, and two further logins: who owns the tables, and who drops old days.
"""

from components.audit.component import Audit, refusals

__all__ = ["Audit", "refusals"]
