"""A small policy that tests may break, and ``zt`` as a function."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zt.cli import zt

SMALL = """\
apiVersion: zt.hanzo.ai/v1
kind: Mesh
metadata: {name: small}
spec:
  trustDomain: hanzo.ai
  clusters: [{name: east, podCIDR: 10.0.0.0/16, serviceCIDR: 10.1.0.0/16}]
---
apiVersion: zt.hanzo.ai/v1
kind: Service
metadata: {name: shop}
spec: {cluster: east, namespace: web, ports: [{port: 80, protocol: http}]}
---
apiVersion: zt.hanzo.ai/v1
kind: Service
metadata: {name: db}
spec: {cluster: east, namespace: web, ports: [{port: 5432, protocol: postgres}]}
---
apiVersion: zt.hanzo.ai/v1
kind: Service
metadata: {name: zt-policy-engine}
spec: {cluster: east, namespace: web, ports: [{port: 8054, protocol: http}]}
---
apiVersion: zt.hanzo.ai/v1
kind: ServiceAccessPolicy
metadata: {name: rules}
spec:
  rules:
    - from: {spiffe: spiffe://hanzo.ai/east/web/shop}
      to:
        - spiffe: spiffe://hanzo.ai/east/web/db
          ports: [5432]
    - from: {spiffe: spiffe://hanzo.ai/east/web/db}
      to:
        - spiffe: spiffe://hanzo.ai/east/web/shop
          ports: [80]
        - spiffe: spiffe://hanzo.ai/east/web/zt-policy-engine
          ports: [8054]
"""

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """``run("check", "--json")``; an exception that is no exit fails the test."""

    def invoke(*arguments: object, **options: object) -> Result:
        arguments = tuple(map(str, arguments))
        options = {"catch_exceptions": False, **options}
        return CliRunner().invoke(zt, arguments, **options)  # type: ignore[arg-type]

    return invoke


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The small policy in a folder of its own."""
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "all.yaml").write_text(SMALL)
    return folder
