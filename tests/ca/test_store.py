"""A lab's CAs as a key store and a transcript, from what its clusters have in Secrets."""

import base64
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.ca import transcript
from gateway.ca.ceremony import Ceremony
from gateway.ca.certificates import check_chain, load_certificate
from gateway.ca.plan import Step
from gateway.ca.state import State, state_of
from lab.ca.evidence import roots_in, until
from lab.ca.store import FIRST, Delivering, adopt, plan_of
from lab.cluster.client import Client
from lab.cluster.model import LabError
from lab.stack.folder import ROOT
from lab.up.authority import development_cas
from zt.load import load_policy
from zt.model import Mesh

_CLUSTERS = ("hanzo-k8s", "lux-k8s")


class _Api:
    """A cluster that has its issuing CA in a Secret."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = dict(files)

    def get(self, path: str) -> Any:  # noqa: ANN401
        assert path.endswith("/spire-system/secrets/spire-development-ca")
        data = {name: base64.b64encode(text.encode()).decode() for name, text in self.files.items()}
        return {"data": data} if data else None

    def apply(self, path: str, manifest: Any) -> None:  # noqa: ANN401
        assert path.endswith(manifest["metadata"]["name"])
        self.files = {k: base64.b64decode(v).decode() for k, v in manifest["data"].items()}


class Site:
    def __init__(self, folder: Path) -> None:
        cas = development_cas("hanzo.ai", _CLUSTERS)
        self.apis = {name: _Api(cas[name]) for name in _CLUSTERS}
        clusters = {name: cast("Client", api) for name, api in self.apis.items()}
        self.store = Delivering(folder / "kms", clusters)
        self.path = folder / "transcript.jsonl"
        self.mesh: Mesh = load_policy(ROOT / "policies").mesh

    def hold(self, step: Step, root: str) -> State:
        plan = plan_of(self.path, self.mesh, step, root)
        ceremony = Ceremony(self.store, self.path, timedelta(0), lambda _: None)
        return ceremony.carry_out(plan, ("lab",))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_what_a_lab_has_is_taken_over(site: Site) -> None:
    adopt(site.path, site.mesh, site.store)
    state = state_of(transcript.read(site.path))
    assert state.active
    assert state.active.name == FIRST
    assert {item.cluster for item in state.issuing} == set(_CLUSTERS)
    assert "PRIVATE" not in site.path.read_text()


def test_ceremonies_change_the_secrets_of_the_clusters(site: Site) -> None:
    adopt(site.path, site.mesh, site.store)
    before = dict(site.apis["lux-k8s"].files)
    both = site.hold(Step.ANNOUNCE, "root-2").published
    after = site.apis["lux-k8s"].files
    assert after["tls.crt"] == before["tls.crt"]
    assert roots_in(after["bundle.crt"].encode()) == {root.fingerprint for root in both}
    state = site.hold(Step.ACTIVATE, "root-2")
    assert state.active
    root = load_certificate(state.active.certificate)
    for api in site.apis.values():
        check_chain(load_certificate(api.files["tls.crt"]), root)
    site.hold(Step.RENEW, "root-2")
    site.hold(Step.RETIRE, FIRST)
    assert len(roots_in(site.apis["hanzo-k8s"].files["bundle.crt"].encode())) == 1


def test_a_lab_is_taken_over_again_after_a_rotation(site: Site, tmp_path: Path) -> None:
    adopt(site.path, site.mesh, site.store)
    for step in (Step.ANNOUNCE, Step.ACTIVATE):
        site.hold(step, "root-2")
    site.hold(Step.RETIRE, FIRST)
    site.path = tmp_path / "another.jsonl"
    adopt(site.path, site.mesh, site.store)
    assert len(site.hold(Step.ANNOUNCE, "root-2").published) == 2


def test_a_cluster_without_a_ca_is_told(site: Site) -> None:
    site.apis["lux-k8s"].files = {}
    with pytest.raises(LabError, match="no Secret"):
        adopt(site.path, site.mesh, site.store)


def test_what_never_comes_is_told_and_who_ends_is_looked_at_again() -> None:
    seen: list[int] = []

    def comes() -> bool:
        seen.append(1)
        if len(seen) == 1:
            raise OSError
        return True

    until("it is", comes, 10)
    assert len(seen) == 2
    with pytest.raises(LabError, match="not everywhere that it is"):
        until("it is", lambda: False, -1)
