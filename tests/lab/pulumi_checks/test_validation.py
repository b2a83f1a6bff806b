"""Every object passes the API server's own validation, and it has nothing to warn of."""

from collections import Counter

import pytest

from tests.lab.pulumi_checks.installing import Installed

pytestmark = pytest.mark.timeout(600)


def test_every_object_is_accepted_without_a_warning(found: Installed) -> None:
    kinds = Counter(item.object.manifest["kind"] for item in found.tried)
    print(f"\n{found.stack}: {len(found.tried)} objects, strictly validated")  # noqa: T201
    for kind, count in sorted(kinds.items()):
        print(f"  {count:4} {kind}")  # noqa: T201
    answers = [(item.object, answer) for item in found.tried for answer in item.answers]

    assert [f"{item}: {answer.message}" for item, answer in answers if not answer.ok] == []
    assert [f"{item}: {text}" for item, answer in answers for text in answer.warnings] == []
    assert len(found.tried) > 40
