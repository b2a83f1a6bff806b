"""An empty audit trail for benchmarks, in a real PostgreSQL of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import psycopg

from tests.postgres import serving
from zt.compile.audit import compile_audit
from zt.effective import effective
from zt.model import Cluster, Mesh, Policy
from zt.values import parse_network

_CLUSTER = Cluster("east", parse_network("10.0.0.0/16"), parse_network("10.1.0.0/16"))
_POLICY = Policy(Mesh("bench", "hanzo.ai", (_CLUSTER,)))
_TODAY = date(2026, 11, 23)


@contextmanager
def empty_trail() -> Iterator[str]:
    """It is there while the block lasts; yields a connection string for a superuser."""
    with serving() as uri:
        with psycopg.connect(uri) as connection:
            (schema,) = compile_audit(effective(_POLICY, _TODAY), _CLUSTER.name)
            connection.execute(schema.text().encode())
        yield uri
