"""The site that the tests of packets share; each test has a table of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.enforcer.site import NODES, Site, site


@pytest.fixture(scope="session")
def built() -> Iterator[Site]:
    with site() as made:
        yield made


@pytest.fixture
def nodes(built: Site) -> Site:
    """The site, with nothing enforced."""
    for number in NODES:
        built.nft(number, "flush", "ruleset")
    return built
