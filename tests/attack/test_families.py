"""What each family tries, from where, and with what."""

import base64
import json
import ssl
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from lab.attack.admission import admission
from lab.attack.certificates import forged, issuer_of
from lab.attack.gateway import gateway
from lab.attack.identity import aged, identity
from lab.attack.model import Attempt, Create, Run, Steal
from lab.attack.network import network, question
from lab.attack.node import node
from lab.attack.pods import bare_pod, inside_alias, outside_alias, outside_pods
from lab.attack.rounds import rounds
from lab.attack.run import sample
from lab.attack.scene import OUTSIDE, Target
from tests.attack.scenes import EFFECTIVE, dial, scene
from tests.authorities import issuing_cas
from zt.inject import Images, inject
from zt.inject.inject import Refused
from zt.inject.needs import injection_of
from zt.model import Protocol

SCENE = scene()
LUX = scene("lux-k8s")
CALLS = (*network(SCENE), *identity(SCENE))


def target(name: str) -> Target:
    return next(target for target in SCENE.targets if target.name == name)


def test_all_ports_that_sidecars_hold_are_attacked() -> None:
    assert {t.service.name for t in SCENE.targets} == {
        item.service.name for item in EFFECTIVE.in_cluster("hanzo-k8s") if item.service.ports
    } - {"zt-policy-engine"}


def test_positions_are_what_network_policies_take_them_for() -> None:
    postgres = target("postgres:5432")
    client, stranger = SCENE.client(postgres), SCENE.stranger(postgres)
    assert client
    assert postgres.admits(client)
    assert stranger
    assert not postgres.admits(stranger)
    assert not postgres.admits(SCENE.guest())
    assert not postgres.admits(SCENE.disguised())
    assert postgres.admits(SCENE.host(postgres))


def test_nobody_attacks_himself() -> None:
    for attempt in CALLS:
        place = next(t.place.pod for t in SCENE.targets if t.name == attempt.target)
        assert dial(attempt).source != place, attempt


def test_what_everybody_may_do_from_the_node_is_no_attack() -> None:
    """The Internet may call console, which nobody in the cluster does."""
    hosts = [a for a in CALLS if a.target == "console:3001" and "/host-" in dial(a).source]
    assert hosts
    assert all(dial(a).question["tls"]["alpn"] == ["zt"] for a in hosts)


def test_a_question_is_one_that_the_application_would_answer() -> None:
    asked = {
        name: question(target(name)) for name in ("postgres:5432", "iam:8000", "zt-audit-db:5432")
    }
    assert asked["postgres:5432"]["send"].endswith("\n")
    assert asked["iam:8000"]["send"].startswith("GET /metrics HTTP/1.1\r\n")
    assert base64.b64decode(asked["zt-audit-db:5432"]["sendBase64"])[4:] == b"\x04\xd2\x16\x2f"


def test_rounds_keep_apart_what_the_trail_could_not() -> None:
    made = rounds(CALLS)
    assert sorted(map(id, CALLS)) == sorted(id(a) for found in made for a in found)
    for found in made:
        recorded = Counter(
            (a.destination, a.port)
            for a in found
            if a.destination and a.attack.stopped_by() & {"handshake", "listener"}
        )
        assert set(recorded.values()) <= {1}
        flows = Counter(
            (dial(a).source, a.target, dial(a).question["port"], dial(a).question["mode"])
            for a in found
        )
        assert set(flows.values()) <= {1}
    assert len(made) < len(CALLS) / 5


def test_a_sample_has_a_client_to_start_from() -> None:
    chosen = sample(SCENE)
    assert [t.door for t in chosen] == [False, True, False]
    assert chosen[2].protocol is Protocol.TCP
    assert all(SCENE.client(t) for t in chosen)
    assert sample(LUX)


def test_the_attackers_pods_are_outside_but_one() -> None:
    pods = list(outside_pods(SCENE))
    assert {pod["metadata"]["namespace"] for pod in pods} == {OUTSIDE}
    assert [pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("hostNetwork")] == [
        "node-1",
        "node-2",
    ]
    bare = bare_pod(SCENE)
    assert bare
    assert SCENE.bare
    # It has the labels of its service, and is never ready: nobody is sent to it.
    assert SCENE.bare.labels.items() <= bare["metadata"]["labels"].items()
    assert bare["spec"]["readinessGates"]


def test_services_of_other_names_lead_to_the_target() -> None:
    postgres = target("postgres:5432")
    inside = inside_alias(postgres)
    # The very pod that is watched, and no other replica.
    replica = {"statefulset.kubernetes.io/pod-name": postgres.place.pod.rpartition("/")[2]}
    assert inside["spec"]["selector"] == postgres.service.labels | replica
    assert inside["spec"]["ports"][0]["targetPort"] == 5432
    service, addresses = outside_alias(postgres)
    assert "selector" not in service["spec"]
    assert addresses["endpoints"][0]["addresses"] == [postgres.place.address]


def test_the_gateway_is_asked_for_what_nobody_may_call_through_it() -> None:
    found = list(gateway(SCENE))
    assert {dial(a).source for a in found} == {"monitoring/prometheus-0"}
    assert all(dial(a).question["port"] == 15443 for a in found)
    asked = {dial(a).question.get("tls", {}).get("serverName") for a in found}
    assert "5432.zt-audit-db.lux.lux-k8s" in asked
    assert "9650.validator.lux.lux-k8s" not in asked
    assert {layer for a in found for layer in a.attack.stopped_by()} == {"gateway"}


# --- Admission ------------------------------------------------------------------------------------


def pods_of_admission() -> list[Attempt]:
    return [
        attempt
        for attempt in admission(SCENE)
        if isinstance(attempt.action, Create) and attempt.action.method == "POST"
    ]


@pytest.mark.parametrize("attempt", pods_of_admission(), ids=lambda a: a.attack.name)
def test_what_the_webhook_refuses_or_mends(attempt: Attempt) -> None:
    assert isinstance(attempt.action, Create)
    manifest = attempt.action.manifest
    injection = injection_of(EFFECTIVE, "hanzo-k8s")
    answer = inject(
        manifest, manifest["metadata"]["namespace"], injection, Images("envoy", "redirect")
    )
    by_policies = ("label", "identity label")
    if attempt.action.injected:
        assert not isinstance(answer, Refused)
        assert answer.pod["spec"]["initContainers"][0]["name"] == "zt-envoy"
    elif not any(word in attempt.attack.name for word in by_policies):
        assert isinstance(answer, Refused), attempt.attack.name


def test_admission_is_asked_as_a_dry_run() -> None:
    found = list(admission(SCENE))
    assert len({attempt.attack.name for attempt in found}) == 9
    assert all(
        isinstance(a.action, Create) and a.action.path.endswith("?dryRun=All") for a in found
    )


# --- Node -----------------------------------------------------------------------------------------


def test_programs_of_the_node_family_say_what_the_kernel_said(tmp_path: Path) -> None:
    """Here as in a pod nothing is at these places; but here are processes of other pods."""
    scripts = {a.attack.name: a.action.script for a in node(SCENE) if isinstance(a.action, Run)}
    assert len(scripts) == 4
    (tmp_path / "1").mkdir()
    for text in scripts.values():
        script = text.replace("/proc", str(tmp_path))
        done = subprocess.run(
            [sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True
        )
        said = json.loads(done.stdout)
        assert (said["got_in"], said["how"], said["said"]) == (False, "kernel", "ENOENT")


def test_a_program_that_gets_in_says_so(tmp_path: Path) -> None:
    script = next(
        a.action.script
        for a in node(SCENE)
        if isinstance(a.action, Run) and "configuration" in a.attack.name
    )
    here = script.replace("'/etc/zt/envoy'", repr(str(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-S", "-c", here], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["got_in"] is True


def test_only_the_burglar_asks_the_agent() -> None:
    (attempt,) = [a for a in node(SCENE) if isinstance(a.action, Steal)]
    assert isinstance(attempt.action, Steal)
    assert attempt.action.source == f"{OUTSIDE}/burglar"


# --- Certificates ---------------------------------------------------------------------------------


def test_forged_certificates_are_wrong_in_one_way_each() -> None:
    files = issuing_cas("hanzo.ai", ["hanzo-k8s"])["hanzo-k8s"]
    ours = issuer_of(files["tls.crt"].encode(), files["tls.key"].encode(), "hanzo.ai")
    now = datetime.now(UTC)
    made = forged(EFFECTIVE, "hanzo-k8s", ours, now)
    wanted = {svid for a in CALLS if (svid := dial(a).svid) and not svid.startswith("stolen/")}
    assert wanted <= made.keys()
    expired = x509.load_pem_x509_certificate(made["expired/iam"].certificate.encode())
    assert expired.not_valid_after_utc < now - timedelta(seconds=30)
    assert identities(made["expired/iam"].certificate) == ["spiffe://hanzo.ai/hanzo-k8s/hanzo/iam"]
    other = x509.load_pem_x509_certificate(made["other-ca/iam"].certificate.encode())
    assert other.issuer != expired.issuer
    assert identities(made["other-cluster/iam"].certificate) == [
        "spiffe://hanzo.ai/lux-k8s/hanzo/iam"
    ]
    # Of our CA with those above it, so that a destination can follow it to the root.
    context = ssl.create_default_context(cadata=files["bundle.crt"])
    assert context.get_ca_certs()
    assert made["undeclared"].certificate.count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE" not in repr(made["undeclared"])


def test_what_was_stolen_is_tried_again_once_it_has_expired() -> None:
    found = list(aged(CALLS, {"stolen/chat"}))
    assert found
    assert {dial(attempt).svid for attempt in found} == {"aged-stolen/chat"}
    assert {layer for a in found for layer in a.attack.stopped_by()} == {"handshake"}


def test_a_certificate_knows_its_end() -> None:
    files = issuing_cas("hanzo.ai", ["hanzo-k8s"])["hanzo-k8s"]
    ours = issuer_of(files["tls.crt"].encode(), files["tls.key"].encode(), "hanzo.ai")
    now = datetime.now(UTC).replace(microsecond=0)
    assert ours.issue("spiffe://hanzo.ai/a/b/c", now, 60).ends == now + timedelta(seconds=60)


def identities(pem: str) -> list[str]:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def test_targets_know_their_protocol() -> None:
    assert target("postgres:5432").protocol is Protocol.POSTGRES
