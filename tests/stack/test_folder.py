from pathlib import Path

import yaml

from lab.stack.folder import ROOT, Engine, _configure, _prepare, _project, merged


def engine(folder: Path) -> Engine:
    return Engine(pulumi=Path("/bin/true"), folder=folder)


def test_what_is_laid_over_wins_all_the_way_down() -> None:
    under = {"a": {"b": 1, "c": 2}, "d": [1], "e": 5}
    over = {"a": {"c": 3}, "d": [2], "e": None}
    assert merged(under, over) == {"a": {"b": 1, "c": 3}, "d": [2]}
    assert under == {"a": {"b": 1, "c": 2}, "d": [1], "e": 5}


def test_the_folder_is_its_owners_alone_and_the_passphrase_stays(tmp_path: Path) -> None:
    its = engine(tmp_path / "engine")
    _prepare(its)
    passphrase = its.passphrase.read_text()
    _prepare(its)
    assert len(passphrase) >= 32
    assert its.passphrase.read_text() == passphrase
    assert [oct(path.stat().st_mode & 0o777) for path in (its.passphrase, its.folder)] == [
        "0o600",
        "0o700",
    ]


def test_a_stack_is_that_of_the_checkout_with_something_laid_over(tmp_path: Path) -> None:
    its = engine(tmp_path)
    _prepare(its)
    _project(its, ROOT)
    path = its.work / "stacks" / "Pulumi.hanzo-k8s.yaml"
    given = yaml.safe_load((ROOT / "stacks" / "Pulumi.hanzo-k8s.yaml").read_text())["config"]
    _configure(its, "hanzo-k8s", ROOT, {"evaluator": {"replicas": 1}})
    path.write_text(f"encryptionsalt: salt\n{path.read_text()}")
    _configure(its, "hanzo-k8s", ROOT, {"evaluator": {"replicas": 2}})
    found = yaml.safe_load(path.read_text())
    assert found["encryptionsalt"] == "salt"
    assert found["config"] == {**given, "hanzo-zt:evaluator": {"replicas": 2}}
