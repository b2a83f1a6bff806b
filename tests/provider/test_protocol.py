"""What the provider answers the engine without asking any API server."""

from typing import Any

import pytest
from pulumi.runtime.proto import provider_pb2

from lab.provider.protocol import Desk, Provider
from lab.provider.values import decoded, encoded

Json = dict[str, Any]
METADATA = {"name": "a", "namespace": "hanzo"}


def check(inputs: Json, secrets: frozenset[tuple[str, ...]] = frozenset()) -> Any:  # noqa: ANN401
    provider = Provider(Desk(strict=False, warn=lambda _: None))
    request = provider_pb2.CheckRequest(news=encoded(inputs, secrets))
    return provider.Check(request, None)  # type: ignore[arg-type]


def manifest(kind: str) -> Json:
    return {"apiVersion": "v1", "kind": kind, "metadata": METADATA, "data": {"key": "dmFsdWU="}}


@pytest.mark.parametrize("secrets", [frozenset(), frozenset({("data", "key")})])
def test_an_object_is_taken_as_it_is(secrets: frozenset[tuple[str, ...]]) -> None:
    answer = check(manifest("ConfigMap"), secrets)
    assert decoded(answer.inputs) == (manifest("ConfigMap"), secrets)
    assert not answer.failures


def test_all_that_a_secret_holds_is_secret() -> None:
    answer = check(manifest("Secret"))
    assert decoded(answer.inputs) == (manifest("Secret"), frozenset({("data",)}))


@pytest.mark.parametrize("metadata", [None, {}, {"namespace": "hanzo"}, {"name": ""}])
def test_an_object_needs_a_name(metadata: Json | None) -> None:
    answer = check({**manifest("ConfigMap"), "metadata": metadata})
    assert [failure.property for failure in answer.failures] == ["metadata.name"]
