"""The image is built in stages from pinned parts, and runs as nobody."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "gateway/Dockerfile").read_text().replace("\\\n", " ").splitlines()


def of(instruction: str) -> list[str]:
    return [line.split(None, 1)[1] for line in LINES if line.startswith(f"{instruction} ")]


def test_stages_are_pinned() -> None:
    stages = of("FROM")

    assert len(stages) >= 2
    assert all(
        re.match(r"[a-z/.-]+:\d[\w.-]+(@sha256:[0-9a-f]{64})?( AS \w+)?$", s) for s in stages
    )


def test_packages_are_pinned() -> None:
    installs = [part for run in of("RUN") for part in run.split("&&") if "apt-get install " in part]
    words = [word for part in installs for word in part.split()[2:] if not word.startswith("-")]

    assert {"nftables", "wireguard-tools"} <= {w.split("=")[0] for w in words}
    assert all(re.fullmatch(r"[a-z0-9-]+=\S+", word) for word in words)


def test_nothing_is_taken_from_elsewhere_or_from_outside_the_package() -> None:
    assert not of("ADD")
    copied = [source for line in of("COPY") for source in line.split()[:-1] if source[0] != "-"]

    assert {path for path in copied if not path.startswith("/")} == {
        "gateway/",
        "gateway/wireguard-go/",
        "requirements-gateway.txt",
    }
    (install,) = (run for run in of("RUN") if "pip install" in run)
    assert "--require-hashes" in install
    assert "--only-binary :all:" in install


def test_wireguard_go_is_of_the_version_that_its_module_pins() -> None:
    (build,) = [run for run in of("RUN") if "go build" in run]
    assert "-mod" not in build
    module = ROOT / "gateway/wireguard-go"
    package = build.split()[-1]
    (version,) = re.findall(rf"^\t{package} (v\S+)", (module / "go.mod").read_text(), re.MULTILINE)
    assert f"{package} {version} h1:" in (module / "go.sum").read_text()


def test_versions_are_those_that_are_tested() -> None:
    gateway, tested = (locked(f"requirements{name}.txt") for name in ("-gateway", ""))
    assert {"cryptography", "hvac", "pyopenssl", "spiffe"} <= gateway.keys()
    assert gateway.items() <= tested.items()


def locked(name: str) -> dict[str, str]:
    pins = re.findall(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", (ROOT / name).read_text(), re.MULTILINE)
    return dict(pins)


def test_it_runs_as_nobody() -> None:
    user, group = of("USER")[-1].split(":")

    assert LINES.index(f"USER {user}:{group}") > max(
        index for index, line in enumerate(LINES) if line.startswith("FROM")
    )
    assert int(user) > 0
    assert int(group) > 0
