"""A real tunnel whose gateways must say who they are before a key of theirs is learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial

import pytest

from gateway.tunnel.attestation import new_nonce
from gateway.tunnel.book import Offer, Place, Step, offer_of
from gateway.tunnel.talk import Answer, ask
from lab.mesh.authority import authority
from lab.tunnel.traffic import answers, pinging
from lab.verify.network import within
from tests.lab.tunnel.site import Gateway, Site, eventually, site

UNATTESTED = 'zt_wireguard_unattested_total{cluster="b"}'


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("tunnel")) as made:
        made.join()
        yield made


def certify_as_nobody_known(one: Gateway) -> None:
    one.certify(authority(one.root.trust_domain, datetime.now(UTC), 3600))


def certify_as_another(one: Gateway) -> None:
    one.certify(spiffe=one.spiffe.replace("/b/", "/c/"))


def lose_its_svid(one: Gateway) -> None:
    (one.folder / "svid/svid.pem").unlink()


def are_done(built: Site) -> bool:
    """Whether no rotation is under way, and all have heard that of all."""
    a, b = built
    return all(
        one.status["step"] is None and heard.get(other.name, Place(0, Step.JOINING)).step is None
        for one, other in ((a, b), (b, a))
        for heard in [offer(one).heard]
    )


def offer(one: Gateway) -> Offer:
    """What it tells now."""
    told: Answer = within(one.net, partial(ask, one.own, one.own, new_nonce()))
    return offer_of(told.offer)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (certify_as_nobody_known, "its certificate is not good here"),
        (certify_as_another, "it is spiffe://hanzo.ai/c/hanzo/wg-gateway"),
        (lose_its_svid, "it sends no attestation"),
    ],
)
def test_a_rotation_waits_until_somebody_vouches_for_the_new_key(
    built: Site, spoil: Callable[[Gateway], None], reason: str
) -> None:
    a, b = built
    eventually(lambda: are_done(built))
    counted, key, said = a.metrics()[UNATTESTED], b.public, a.log.count(reason)
    with pinging(a.end, b.end) as pings:
        spoil(b)
        eventually(lambda: a.metrics()[UNATTESTED] >= counted + 1)
        b.command("rotate")
        eventually(lambda: a.metrics()[UNATTESTED] >= counted + 4)
        assert (a.status["step"], b.status["step"], b.public) == (None, "staged", key)
        assert a.is_up(b)
        assert b.is_up(a)
        b.certify()
        eventually(lambda: b.public != key)
        eventually(lambda: are_done(built))
    # The last may be on its way when they end.
    assert pings.lost_at == ()
    assert pings.received > 0
    assert answers(a.end, b.end)
    # Once, not at each answer.
    assert a.log.count(reason) == said + 1
    assert f"what b tells is attested by {b.spiffe}" in a.log


def test_what_is_learned_outlives_the_svid(built: Site) -> None:
    """Both start again without any SVID, on keys that were learned with one."""
    a, b = built
    for one in built:
        lose_its_svid(one)
        one.kill()
    for one in built:
        one.start()
    eventually(lambda: a.is_up(b) and b.is_up(a))
    assert answers(a.end, b.end)
    assert "this gateway has no SVID now, and so no trust bundle" in a.log
