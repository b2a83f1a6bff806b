"""``zt ca`` from the first plan to the status, as two people would use it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.ca import approval
from gateway.ca.approval import ApprovalError, approvers_of
from gateway.ca.commands import ca
from gateway.ca.plan import from_text
from gateway.keys.directory import Directory

ROOT = Path(__file__).parents[3]


class Desk:
    """Where ceremonies are held: people with keys, a store, a transcript."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = ""
        lines = [self._person(name) for name in ("alice", "bob")]
        self._person("mallory")
        (folder / "approvers").write_text("# two people\n" + "\n".join(lines) + "\n")

    def _person(self, name: str) -> str:
        key = Ed25519PrivateKey.generate()
        locked = name == "bob"
        encryption: KeySerializationEncryption = (
            BestAvailableEncryption(b"password") if locked else NoEncryption()
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption)
        (self.folder / f"{name}.key").write_bytes(private)
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return f"{name} {public.decode()} {name}@hanzo.ai"

    def run(self, *words: str, code: int = 0, typed: str | None = None) -> str:
        result: Result = CliRunner().invoke(ca, list(words), input=typed)
        assert result.exit_code == code, result.output
        self.said += result.output
        return result.output

    def plan(self, step: str, root: str) -> Path:
        path = self.folder / f"{step}.yaml"
        self.run(
            *("plan", f"--step={step}", f"--root={root}", f"--out={path}"),
            *(f"--policies={ROOT / 'policies'}", self.transcript),
        )
        return path

    @property
    def transcript(self) -> str:
        return f"--transcript={self.folder / 'transcript.jsonl'}"

    def confirm(self, plan: Path, by: str) -> None:
        key = self.folder / f"{by}.key"
        typed = "y\npassword\n" if by == "bob" else "y\n"
        self.run("confirm", str(plan), f"--by={by}", f"--key={key}", typed=typed)

    def hold(self, plan: Path, *more: str, code: int = 0) -> str:
        return self.run(
            *("ceremony", str(plan), f"--approvers={self.folder / 'approvers'}"),
            *(f"--address=file://{self.folder / 'kms'}", self.transcript, *more),
            code=code,
        )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_two_people_found_a_root(desk: Desk) -> None:
    plan = desk.plan("found", "root-2026")
    assert from_text(plan.read_text()).clusters == ("hanzo-k8s", "lux-k8s")
    desk.confirm(plan, "alice")
    assert "2 people have to confirm plan found-root-2026: alice did" in desk.hold(plan, code=1)
    desk.confirm(plan, "bob")
    rehearsal = desk.hold(plan, "--dry-run")
    assert "would make root root-2026" in rehearsal
    assert "confirmed by alice and bob; nothing was done" in rehearsal
    assert not (desk.folder / "kms").exists()
    assert not (desk.folder / "transcript.jsonl").exists()
    done = desk.hold(plan)
    assert "make and sign an issuing CA for lux-k8s" in done
    shown = json.loads(desk.run("status", desk.transcript, "--json"))
    assert shown["active"] == "root-2026"
    assert [row["tier"] for row in shown["authorities"]] == ["root", "issuing", "issuing"]
    assert not any(row["soon"] for row in shown["authorities"])
    assert "signs since" in desk.run("status", desk.transcript)
    store = Directory(desk.folder / "kms" / "zt-root-ca")
    for path in ("root/root-2026", "spire/hanzo-k8s"):
        for line in store.read(path)["tls.key"].splitlines()[1:-1]:
            assert line not in desk.said
    assert "PRIVATE KEY" not in desk.said


def test_what_is_too_early_is_said_also_in_a_rehearsal(desk: Desk) -> None:
    for step, root in (("found", "root-2026"), ("announce", "root-2027")):
        plan = desk.plan(step, root)
        for name in ("alice", "bob"):
            desk.confirm(plan, name)
        desk.hold(plan)
    plan = desk.plan("activate", "root-2027")
    for name in ("alice", "bob"):
        desk.confirm(plan, name)
    assert "wait until" in desk.hold(plan, "--dry-run", code=1)
    assert "wait until" in desk.hold(plan, code=1)


def test_a_plan_that_was_changed_is_not_confirmed_any_more(desk: Desk) -> None:
    plan = desk.plan("found", "root-2026")
    for name in ("alice", "bob"):
        desk.confirm(plan, name)
    plan.write_text(plan.read_text().replace("issuing: 90d", "issuing: 360d"))
    assert "has confirmed another plan" in desk.hold(plan, code=1)


def test_who_is_not_on_the_list_confirms_nothing(desk: Desk) -> None:
    plan = desk.plan("found", "root-2026")
    desk.confirm(plan, "alice")
    desk.confirm(plan, "mallory")
    assert "mallory is none of those who may confirm" in desk.hold(plan, code=1)
    # Under another's name it is not their key.
    approval.file_of(plan, "mallory").unlink()
    made = approval.approve(
        from_text(plan.read_text()), "bob", (desk.folder / "mallory.key").read_bytes()
    )
    approval.write(plan, made)
    assert "confirmation of bob is not by their key" in desk.hold(plan, code=1)


def test_one_person_is_not_two(desk: Desk) -> None:
    text = (desk.folder / "approvers").read_text()
    alice = text.splitlines()[1]
    with pytest.raises(ApprovalError, match="has that name or that key"):
        approvers_of(f"{alice}\n{alice.replace('alice', 'alice2', 1)}\n")
    with pytest.raises(ApprovalError, match="should be"):
        approvers_of("alice ssh-rsa AAAA\n")
    with pytest.raises(ApprovalError, match="no key"):
        approvers_of("alice ssh-ed25519 AAAA\n")


def test_nothing_is_done_without_a_store(desk: Desk) -> None:
    plan = desk.plan("found", "root-2026")
    for name in ("alice", "bob"):
        desk.confirm(plan, name)
    approvers = f"--approvers={desk.folder / 'approvers'}"
    said = desk.run("ceremony", str(plan), approvers, desk.transcript, code=2)
    assert "--address" in said


def test_a_broken_transcript_is_told(desk: Desk) -> None:
    (desk.folder / "transcript.jsonl").write_text("{}\n")
    assert "line 1: this is no entry" in desk.run("status", desk.transcript, code=1)
