"""Whatever a call means, it means over both transports."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import pytest

from engine.envoy import fallback, http2
from tests.engine import sidecar

Evaluator = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(params=[http2.serve, fallback.serve], ids=["ngh2", "grpcio"])
def evaluator(request: pytest.FixtureRequest) -> Evaluator:
    """``sidecar.evaluator`` over each transport."""
    return partial(sidecar.evaluator, serve=request.param)
