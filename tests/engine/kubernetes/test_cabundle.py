"""The CA by which API servers know the webhook, whoever changes it."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.kubernetes.cabundle import CONFIGURATIONS, Keeper, keep
from engine.kubernetes.client import KubernetesError
from tests.engine.kubernetes.apiserver import Cluster, serving
from tests.engine.samples import Authority

Json = dict[str, Any]
NAME = "zt-sidecars"
PATH = CONFIGURATIONS + NAME


def configuration(*names: str, **client: str) -> Json:
    hooks = [{"name": name, "clientConfig": {"service": {"name": "s"}} | client} for name in names]
    return {"metadata": {"name": NAME, "resourceVersion": "7"}, "webhooks": hooks}


@dataclass
class Site:
    """A keeper, the cluster that it asks, and the clock that it reads."""

    cluster: Cluster
    keeper: Keeper
    now: float = 0.0

    def bundles(self) -> list[bytes]:
        hooks = self.cluster.objects[PATH]["webhooks"]
        return [base64.b64decode(hook["clientConfig"].get("caBundle", "")) for hook in hooks]

    def put(self, bundle: bytes) -> None:
        """Somebody else's change."""
        self.cluster.objects[PATH]["webhooks"][0]["clientConfig"]["caBundle"] = _encoded(bundle)

    def trust(self, *authorities: Authority) -> None:
        """The mesh's trust bundle from now on."""
        self.keeper.bundle.write_bytes(b"".join(authority.bundle for authority in authorities))


def _encoded(bundle: bytes) -> str:
    return base64.b64encode(bundle).decode()


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Iterator[Site]:
    cluster = Cluster(objects={PATH: configuration("inject.zt.hanzo.ai")})
    with serving(cluster) as api:
        made = Site(cluster, Keeper(api, NAME, tmp_path / "bundle.pem"))
        made.keeper.clock = lambda: made.now
        made.trust(authority)
        yield made


def test_every_webhook_of_the_configuration_gets_it_once(site: Site, authority: Authority) -> None:
    site.cluster.objects[PATH] = configuration("one", "two", "three")
    assert site.keeper.step()
    assert site.bundles() == [authority.bundle] * 3
    assert not site.keeper.step()
    patches = [asked for asked in site.cluster.asked if "fieldManager" in asked]
    assert patches == [f"{PATH}?fieldManager=zt-policy-engine"]
    hook = site.cluster.objects[PATH]["webhooks"][0]
    assert hook["clientConfig"]["service"] == {"name": "s"}, "nothing else is touched"


@pytest.mark.parametrize("content", [b"", b"not PEM", Authority().bundle])
def test_whatever_replaced_it_goes_at_once(
    site: Site, authority: Authority, content: bytes
) -> None:
    site.keeper.step()
    site.put(content)
    assert site.keeper.step()
    assert site.bundles() == [authority.bundle]


def test_a_ca_beside_ours_goes_after_a_while(site: Site, authority: Authority) -> None:
    site.keeper.step()
    site.put(authority.bundle + Authority().bundle)
    assert not site.keeper.step()
    site.now = 19
    assert not site.keeper.step()
    site.now = 21
    assert site.keeper.step()
    assert site.bundles() == [authority.bundle]


def test_replicas_that_hear_of_a_change_one_after_the_other_do_not_fight(
    site: Site, authority: Authority, tmp_path: Path
) -> None:
    """Each step of a rotation reaches the second replica ten seconds after the first."""
    other = Site(site.cluster, Keeper(site.keeper.api, NAME, tmp_path / "other.pem"))
    other.keeper.clock = lambda: site.now
    renewed = Authority()
    other.trust(authority)
    changes = 0

    def pass_time(seconds: int) -> int:
        found = 0
        for _ in range(seconds // 2):
            site.now += 2
            found += site.keeper.step() + other.keeper.step()
        return found

    assert pass_time(10) == 1
    for stage in ((authority, renewed), (renewed,)):
        site.trust(*stage)
        changes += pass_time(10)
        other.trust(*stage)
        changes += pass_time(40)
        assert site.bundles() == [b"".join(ca.bundle for ca in stage)]
    assert changes == 2


def test_who_was_slower_leaves_it_to_the_other(site: Site) -> None:
    site.cluster.refuse = [0, 409]
    assert not site.keeper.step()
    site.cluster.refuse = [0, 422]
    assert not site.keeper.step()
    assert site.keeper.step()


def test_without_a_trust_bundle_nothing_is_written(site: Site) -> None:
    site.keeper.bundle.write_bytes(b"")
    with pytest.raises(ValueError, match="PEM"):
        site.keeper.step()
    site.keeper.bundle.unlink()
    with pytest.raises(FileNotFoundError):
        site.keeper.step()
    assert site.bundles() == [b""]


def test_it_waits_for_the_configuration_and_is_soon_there(
    site: Site, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    found = site.cluster.objects.pop(PATH)
    pauses: list[float] = []

    class Ended(BaseException):
        pass

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            site.cluster.objects[PATH] = found
        if len(pauses) == 7:
            raise Ended

    with pytest.raises(Ended):
        keep(site.keeper, pause)
    assert max(pauses) <= 2
    assert site.bundles() == [authority.bundle]
    sentence = f"there is no MutatingWebhookConfiguration {NAME} yet: no pod is injected"
    assert caplog.messages.count(sentence) == 1, "it says so once"


def test_an_api_that_is_away_is_asked_less_and_less_often(site: Site) -> None:
    site.cluster.refuse = [503] * 8
    pauses: list[float] = []

    class Ended(BaseException):
        pass

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 9:
            raise Ended

    with pytest.raises(Ended):
        keep(site.keeper, pause)
    assert 15 <= max(pauses) <= 30
    assert pauses[-1] <= 2, "and as often as before once it is back"
    site.cluster.refuse = [403]
    with pytest.raises(KubernetesError):
        site.keeper.step()
