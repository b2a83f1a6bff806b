"""Waiting for evidence, and what is read of it."""

import pytest

from lab.ca.evidence import roots_in, until
from lab.cluster.model import LabError
from tests.authorities import issuing_cas


def test_what_never_comes_is_told_and_who_ends_is_looked_at_again() -> None:
    seen: list[int] = []

    def lacking() -> list[str]:
        seen.append(1)
        if len(seen) == 1:
            raise OSError("it ended")
        return []

    until("it is", lacking, 10)
    assert len(seen) == 2
    with pytest.raises(LabError, match="not everywhere that it is: a, b, c, d and 1 more"):
        until("it is", lambda: "abcde", -1)


def test_a_bundle_has_as_many_roots_as_were_published() -> None:
    bundles = [issuing_cas("hanzo.ai", ["here"])["here"]["bundle.crt"] for _ in range(2)]
    assert len(roots_in("".join(bundles).encode())) == 2
    assert roots_in(bundles[0].encode()) < roots_in("".join(bundles).encode())
    with pytest.raises(ValueError, match="PEM"):
        roots_in(b"")
