"""Ceremonies against a store in a folder: what they make, in which order, and what they refuse."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.ca import transcript
from gateway.ca.ceremony import Ceremony, CeremonyError
from gateway.ca.certificates import BadCertificateError, fingerprint, load, load_certificate
from gateway.ca.plan import Plan, PlanError, Step, from_text, to_text
from gateway.ca.state import State, state_of
from gateway.keys import KeyStoreError, MissingError, UnreachableError
from gateway.keys.directory import Directory
from zt.model import KeyType

_BOTH = ("alice", "bob")
_CLUSTERS = ("hanzo-k8s", "lux-k8s")
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_DAY = 86400
_WAIT = timedelta(days=2)


class Unsteady(Directory):
    """A store that is away after so many writes."""

    left = 99

    def write(self, path: str, value: Mapping[str, str]) -> int:
        if type(self).left == 0:
            raise UnreachableError("KMS does not answer")
        type(self).left -= 1
        return super().write(path, value)


class Site:
    """A store, a transcript, and the time."""

    def __init__(self, folder: Path) -> None:
        Unsteady.left = 99
        self.store = Unsteady(folder / "kms")
        self.path = folder / "transcript.jsonl"
        self.now = _NOW
        self.said: list[str] = []

    def plan(
        self,
        step: Step,
        root: str,
        *clusters: str,
        issuing: int = 90,
        key_type: KeyType = KeyType.EC_P256,
    ) -> Plan:
        return Plan(
            name=f"{step}-{root}",
            step=step,
            trust_domain="hanzo.ai",
            root=root,
            clusters=clusters or _CLUSTERS,
            key_type=key_type,
            root_lifetime=365 * _DAY,
            issuing_lifetime=issuing * _DAY,
            ca=_DAY,
            after=transcript.head(transcript.read(self.path)),
        )

    def hold(self, plan: Plan) -> State:
        ceremony = Ceremony(self.store, self.path, _WAIT, self.said.append, lambda: self.now)
        return ceremony.carry_out(plan, _BOTH)

    def do(self, step: Step, root: str, *clusters: str) -> State:
        return self.hold(self.plan(step, root, *clusters))

    def pass_days(self, days: float) -> None:
        self.now += timedelta(days=days)

    def bundle(self, cluster: str) -> list[str]:
        text = self.store.read(f"spire/{cluster}")["bundle.crt"]
        return [fingerprint(c) for c in x509.load_pem_x509_certificates(text.encode())]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_first_root_and_an_issuing_ca_for_each_cluster(site: Site) -> None:
    state = site.do(Step.FOUND, "root-2026")
    assert state.active
    assert state.active.name == "root-2026"
    root = load_certificate(state.active.certificate)
    assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 2
    for cluster in _CLUSTERS:
        value = site.store.read(f"spire/{cluster}")
        assert set(value) == {"tls.crt", "tls.key", "bundle.crt"}
        issuing = load(value["tls.crt"], value["tls.key"]).certificate
        issuing.verify_directly_issued_by(root)
        assert site.bundle(cluster) == [fingerprint(root)]
        names = issuing.extensions.get_extension_for_class(x509.NameConstraints)
        assert names.critical
        assert [item.value for item in names.value.permitted_subtrees or ()] == ["hanzo.ai"]


def test_a_root_is_published_before_it_signs_and_after_it_signed(site: Site) -> None:
    first = site.do(Step.FOUND, "root-2026").roots[0].fingerprint
    before = site.store.read("spire/lux-k8s")
    state = site.do(Step.ANNOUNCE, "root-2027")
    second = state.roots[1].fingerprint
    # The issuing CA is the old one; only the bundle has grown.
    after = site.store.read("spire/lux-k8s")
    assert (after["tls.crt"], after["tls.key"]) == (before["tls.crt"], before["tls.key"])
    assert site.bundle("lux-k8s") == [first, second]
    with pytest.raises(CeremonyError, match="wait until 2026-01-03"):
        site.do(Step.ACTIVATE, "root-2027")
    site.pass_days(2)
    state = site.do(Step.ACTIVATE, "root-2027")
    assert state.active
    assert state.active.name == "root-2027"
    assert site.bundle("hanzo-k8s") == [second, first]
    with pytest.raises(CeremonyError, match="wait until 2026-01-05"):
        site.do(Step.RETIRE, "root-2026")
    site.pass_days(2)
    state = site.do(Step.RETIRE, "root-2026")
    assert site.bundle("hanzo-k8s") == site.bundle("lux-k8s") == [second]
    with pytest.raises(MissingError):
        site.store.read("root/root-2026", 1)
    assert [root.name for root in state.published] == ["root-2027"]


def test_a_new_root_may_be_of_another_algorithm(site: Site) -> None:
    state = site.do(Step.FOUND, "root-2026")
    for step in (Step.ANNOUNCE, Step.ACTIVATE):
        state = site.hold(site.plan(step, "root-2027", key_type=KeyType.EC_P384))
        site.pass_days(2)
    old, new = (load_certificate(root.certificate) for root in state.published)
    assert [_curve(root) for root in (old, new)] == ["secp256r1", "secp384r1"]
    for cluster in _CLUSTERS:
        value = site.store.read(f"spire/{cluster}")
        issuing = load(value["tls.crt"], value["tls.key"]).certificate
        issuing.verify_directly_issued_by(new)
        assert _curve(issuing) == "secp384r1"
        assert site.bundle(cluster) == [fingerprint(new), fingerprint(old)]
    site.do(Step.RETIRE, "root-2026")
    assert site.bundle("lux-k8s") == [fingerprint(new)]


def _curve(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key.curve.name


def test_issuing_cas_are_renewed_one_by_one(site: Site) -> None:
    before = site.do(Step.FOUND, "root-2026")
    site.pass_days(60)
    after = site.do(Step.RENEW, "root-2026", "lux-k8s")
    of = {item.cluster: item.fingerprint for item in before.issuing}
    new = {item.cluster: item.fingerprint for item in after.issuing}
    assert new["hanzo-k8s"] == of["hanzo-k8s"]
    assert new["lux-k8s"] != of["lux-k8s"]


def test_a_root_goes_only_when_nobody_is_below_it(site: Site) -> None:
    site.do(Step.FOUND, "root-2026")
    site.do(Step.ANNOUNCE, "root-2027")
    site.pass_days(3)
    site.do(Step.ACTIVATE, "root-2027", "lux-k8s")
    site.pass_days(3)
    with pytest.raises(CeremonyError, match="issuing CA of hanzo-k8s is still one of root"):
        site.do(Step.RETIRE, "root-2026")
    site.do(Step.RENEW, "root-2027", "hanzo-k8s")
    site.pass_days(3)
    site.do(Step.RETIRE, "root-2026")


@pytest.mark.parametrize(
    ("step", "root", "why"),
    [
        (Step.FOUND, "root-2027", "there is a root already"),
        (Step.ANNOUNCE, "root-2026", "give the new one another name"),
        (Step.ACTIVATE, "root-2026", "signs already"),
        (Step.ACTIVATE, "root-2027", "no root root-2027 is announced"),
        (Step.RENEW, "root-2027", "the root that signs is root-2026"),
        (Step.RETIRE, "root-2026", "is the one that signs"),
        (Step.RETIRE, "root-2027", "no root root-2027 is published"),
    ],
)
def test_what_cannot_be_is_refused(site: Site, step: Step, root: str, why: str) -> None:
    site.do(Step.FOUND, "root-2026")
    size = site.path.stat().st_size
    with pytest.raises(CeremonyError, match=why):
        site.do(step, root)
    assert site.path.stat().st_size == size


def test_one_root_is_announced_at_a_time(site: Site) -> None:
    with pytest.raises(CeremonyError, match="found one"):
        site.do(Step.ANNOUNCE, "root-2026")
    site.do(Step.FOUND, "root-2026")
    site.do(Step.ANNOUNCE, "root-2027")
    with pytest.raises(CeremonyError, match="root-2027 is announced already"):
        site.do(Step.ANNOUNCE, "root-2028")


def test_a_plan_is_for_one_state_and_is_carried_out_once(site: Site) -> None:
    plan = site.plan(Step.FOUND, "root-2026")
    site.hold(plan)
    with pytest.raises(CeremonyError, match="another state"):
        site.hold(plan)


def test_an_issuing_ca_does_not_outlive_its_root(site: Site) -> None:
    site.do(Step.FOUND, "root-2026")
    site.pass_days(300)
    with pytest.raises(CeremonyError, match="would outlive the root"):
        site.do(Step.RENEW, "root-2026")


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_ceremony_that_broke_off_goes_on_with_the_same_plan(site: Site, writes: int) -> None:
    plan = site.plan(Step.FOUND, "root-2026")
    Unsteady.left = writes
    with pytest.raises(KeyStoreError):
        site.hold(plan)
    Unsteady.left = 99
    with pytest.raises(CeremonyError, match="another ceremony was begun"):
        site.hold(site.plan(Step.FOUND, "other"))
    site.said.clear()
    state = site.hold(plan)
    assert len(site.said) == 3 - writes
    assert [root.name for root in state.roots] == ["root-2026"]
    assert {item.cluster for item in state.issuing} == set(_CLUSTERS)
    assert state.unfinished is None
    events = [entry.event for entry in transcript.read(site.path)]
    assert events == ["began", "root made", "issued", "issued", "done"]


def test_what_kms_has_must_be_what_the_transcript_says(site: Site) -> None:
    site.do(Step.FOUND, "root-2026")
    other = Site(site.path.parent / "other")
    other.path.parent.mkdir()
    other.do(Step.FOUND, "root-2026")
    planted = dict(other.store.read("spire/lux-k8s"))
    site.store.write("spire/lux-k8s", planted)
    with pytest.raises(CeremonyError, match="KMS has another certificate"):
        site.do(Step.ANNOUNCE, "root-2027")


def test_the_transcript_has_everything_but_keys(site: Site) -> None:
    site.do(Step.FOUND, "root-2026")
    text = site.path.read_text()
    assert "PRIVATE" not in text
    assert "BEGIN CERTIFICATE" in text
    for cluster in _CLUSTERS:
        key = site.store.read(f"spire/{cluster}")["tls.key"].splitlines()[1]
        assert key not in text
    assert "PRIVATE" not in repr(load(**_pair(site)))
    began = transcript.read(site.path)[0].facts
    assert began["confirmed"] == ["alice", "bob"]


def _pair(site: Site) -> dict[str, str]:
    value = site.store.read("root/root-2026")
    return {"certificate": value["tls.crt"], "key": value["tls.key"]}


@pytest.mark.parametrize(
    ("spiffe", "good"),
    [
        ("spiffe://hanzo.ai/hanzo-k8s/hanzo/iam", True),
        ("spiffe://attacker.example/hanzo-k8s/hanzo/iam", False),
    ],
)
def test_an_svid_below_is_valid_for_whoever_has_the_root(
    site: Site, tmp_path: Path, spiffe: str, *, good: bool
) -> None:
    """By OpenSSL, which knows path lengths and constraints on names."""
    from lab.mesh.authority import Authority, issue  # noqa: PLC0415

    site.now = datetime.now(UTC)
    state = site.do(Step.FOUND, "root-2026")
    value = site.store.read("spire/hanzo-k8s")
    issuing = load(value["tls.crt"], value["tls.key"])
    above = Authority("hanzo.ai", issuing.certificate, issuing.key)
    svid = issue(above, spiffe, site.now, 3600)
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(svid.certificate.decode() + value["tls.crt"])
    key.write_bytes(svid.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, key)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(cadata=state.roots[0].certificate)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_cert_chain(chain, key)
    client.load_verify_locations(cadata=state.roots[0].certificate)
    if good:
        _shake_hands(client, server)
    else:
        with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
            _shake_hands(client, server)


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    for _ in range(10):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    # The server's word on the client's certificate comes behind the handshake of TLS 1.3.
    ends[1].write(b"welcome")
    assert ends[0].read() == b"welcome"


# --- Transcript -----------------------------------------------------------------------------------


def _changed(site: Site) -> Iterator[tuple[str, list[str]]]:
    lines = site.path.read_text().splitlines()
    yield "changed", [lines[0].replace("alice", "mallory"), *lines[1:]]
    yield "taken away", [lines[0], *lines[2:]]
    yield "another order", [lines[1], lines[0], *lines[2:]]
    yield "no entry", [*lines, "{}"]
    yield "one more field", [lines[0].replace('{"event"', '{"added":1,"event"'), *lines[1:]]


def test_a_transcript_that_was_changed_is_refused(site: Site) -> None:
    site.do(Step.FOUND, "root-2026")
    for what, lines in _changed(site):
        site.path.write_text("\n".join(lines) + "\n")
        with pytest.raises(transcript.TranscriptError):
            state_of(transcript.read(site.path))
        with pytest.raises(transcript.TranscriptError):
            site.plan(Step.RENEW, "root-2026")
        assert what


# --- Plans ----------------------------------------------------------------------------------------


def test_a_plan_is_read_as_it_was_written(site: Site) -> None:
    plan = site.plan(Step.FOUND, "root-2026")
    assert from_text(to_text(plan)) == plan
    assert replace(plan, issuing_lifetime=1).digest() != plan.digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("step: found", "step: find"),
        ("root: root-2026", "root: ../spire"),
        ("- lux-k8s", "- lux/k8s"),
        ("keyType: ec-p256", "keyType: rsa"),
        ("ca: 1d", "ca: soon"),
        ("kind: CeremonyPlan", "kind: Service"),
        ("spec:", "specs:"),
    ],
)
def test_what_is_no_plan_is_refused(site: Site, old: str, new: str) -> None:
    text = to_text(site.plan(Step.FOUND, "root-2026"))
    assert old in text
    with pytest.raises(PlanError):
        from_text(text.replace(old, new))


def test_pairs_that_do_not_belong_together_are_refused(site: Site) -> None:
    site.do(Step.FOUND, "root-2026")
    values = [site.store.read(f"spire/{cluster}") for cluster in _CLUSTERS]
    with pytest.raises(BadCertificateError, match="not that of the certificate"):
        load(values[0]["tls.crt"], values[1]["tls.key"])
    with pytest.raises(BadCertificateError, match="no certificate"):
        load("nothing", values[1]["tls.key"])
    with pytest.raises(BadCertificateError, match="not PEM") as caught:
        load(values[0]["tls.crt"], "secret")
    assert "secret" not in str(caught.value)
