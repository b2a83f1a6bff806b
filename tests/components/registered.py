"""What a Pulumi program registers, seen by a monitor of our own: no engine, no plugin, no cluster.

Each run has its own event loop and its own context, so that nothing of one reaches the next.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import json
import logging
import runpy
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime import settings
from pulumi.runtime.config import set_all_config
from pulumi.runtime.mocks import MockEngine, MockMonitor, MockSettings
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.stack import run_in_stack

from zt.memory import collector_paused

PROJECT = "hanzo-zt"
CHECKOUT = Path(__file__).parents[2]
STACKS = sorted(file.stem.removeprefix("Pulumi.") for file in CHECKOUT.glob("stacks/*.yaml"))

# How a secret is marked in what is sent to the engine.
_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"

Json = dict[str, Any]
Program = Callable[[], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Registered:
    """One resource: its inputs as plain JSON, and the paths of those that were sent as secrets."""

    urn: str
    type: str
    name: str
    inputs: Json
    secrets: tuple[str, ...]
    parent: str
    provider: str
    dependencies: tuple[str, ...]
    protect: bool
    custom: bool
    outputs_secret: tuple[str, ...]

    @property
    def is_component(self) -> bool:
        return not self.custom

    @property
    def is_kubernetes(self) -> bool:
        return self.type.startswith("kubernetes:")


@dataclass(slots=True)
class Run:
    """All that one run of the program registered, in order, and what it warned of."""

    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, Json] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def of(self, type_: str) -> list[Registered]:
        return [resource for resource in self.resources if resource.type == type_]

    def named(self, name: str) -> Registered:
        (found,) = (resource for resource in self.resources if resource.name == name)
        return found

    def children(self, parent: Registered) -> list[Registered]:
        return [resource for resource in self.resources if resource.parent == parent.urn]

    @property
    def exports(self) -> Json:
        (stack,) = (out for urn, out in self.outputs.items() if "::pulumi:pulumi:Stack::" in urn)
        return stack


class _Nobody(pulumi.runtime.Mocks):
    """Whom the program may ask: nobody. A preview needs no look at any cloud."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, Json]:
        raise AssertionError(f"the program reads {args.name}")

    def call(self, args: pulumi.runtime.MockCallArgs) -> Any:  # noqa: ANN401 - as it is declared
        raise AssertionError(f"the program asks for {args.token}")


class _Monitor(MockMonitor):
    """Pulumi's own monitor for tests, which forgets most of what it is told.

    Each resource gets an ID, and clusters a kubeconfig that must stay secret.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(_Nobody())
        self.run = run

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802, ANN401 - gRPC's
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == "pulumi:pulumi:Stack":
            return resource_pb2.RegisterResourceResponse(urn=urn)
        resource = _registered(request, urn)
        self.run.resources.append(resource)
        state = struct_pb2.Struct()
        state.update(resource.inputs | _OUTPUTS.get(resource.type, {}))
        identity = f"{resource.name}-id" if resource.custom else ""
        return resource_pb2.RegisterResourceResponse(urn=urn, id=identity, object=state)

    def Invoke(self, request: Any) -> Any:  # noqa: N802, ANN401 - gRPC's
        # Only of a database that is there, so never in a first preview. Pulumi's own would leave
        # an event loop behind in this thread.
        if request.tok == "digitalocean:index/getDatabaseCa:getDatabaseCa":
            answer = resource_pb2.ResourceInvokeResponse()
            getattr(answer, "return").update({"certificate": "a-certificate"})
            return answer
        return super().Invoke(request)  # type: ignore[no-untyped-call]

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802, ANN401 - gRPC's
        self.run.outputs[request.urn], _ = _plain(request.outputs)
        return empty_pb2.Empty()


_OUTPUTS: dict[str, Json] = {
    "digitalocean:index/kubernetesCluster:KubernetesCluster": {
        "kubeConfigs": [{"rawConfig": "kubeconfig-of-a-created-cluster"}]
    },
    # Passwords as DigitalOcean makes them.
    "digitalocean:index/databaseCluster:DatabaseCluster": {
        "user": "doadmin",
        "password": "word-of-doadmin",
        "privateHost": "private.db.example",
        "port": 25060,
    },
    "digitalocean:index/databaseUser:DatabaseUser": {"password": "word-of-a-user"},
}


def _registered(request: Any, urn: str) -> Registered:  # noqa: ANN401 - a protobuf message
    inputs, secrets = _plain(request.object)
    return Registered(
        urn=urn,
        type=request.type,
        name=request.name,
        inputs=inputs,
        secrets=secrets,
        parent=request.parent,
        provider=request.provider,
        dependencies=tuple(request.dependencies),
        protect=request.protect,
        custom=request.custom,
        outputs_secret=tuple(request.additionalSecretOutputs),
    )


def _plain(message: Any) -> tuple[Json, tuple[str, ...]]:  # noqa: ANN401 - a protobuf message
    """A message as JSON without the marks of secrets, and the paths where these were."""
    secrets: list[str] = []

    def walk(value: Any, path: str) -> Any:  # noqa: ANN401 - JSON
        if isinstance(value, dict):
            if value.get(_SIGNATURE) == _SECRET:
                secrets.append(path)
                return walk(value["value"], path)
            return {
                key: walk(item, f"{path}.{key}" if path else key) for key, item in value.items()
            }
        if isinstance(value, list):
            return [walk(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return walk(json_format.MessageToDict(message), ""), tuple(secrets)


def run(program: Program, stack: str, config: Mapping[str, str]) -> Run:
    """Run a program with a stack's configuration; raises what the program raises."""
    seen = Run()
    contextvars.copy_context().run(_run, program, stack, config, seen)
    return seen


def refusal(program: Program, stack: str, config: Mapping[str, str]) -> str:
    """What a program says that stops before it has registered anything."""
    seen = Run()
    with pytest.raises(pulumi.RunError) as stopped:
        contextvars.copy_context().run(_run, program, stack, config, seen)
    assert not seen.resources
    return str(stopped.value)


def _run(program: Program, stack: str, config: Mapping[str, str], seen: Run) -> None:
    monitor = _Monitor(seen)
    logger = logging.Logger("pulumi")  # noqa: LOG001 - one of this run alone
    logger.addHandler(_Listener(seen.log))
    features = monitor.GetDeploymentInfo(empty_pb2.Empty()).supportedFeatures  # type: ignore[no-untyped-call]
    settings.ROOT.set(None)
    settings.configure(
        MockSettings(  # type: ignore[no-untyped-call]
            monitor=monitor,
            monitor_features=set(features),
            engine=MockEngine(logger),
            project=PROJECT,
            stack=stack,
            dry_run=False,
            organization=None,
            callbacks=None,
        )
    )
    set_all_config(dict(config))
    with asyncio.Runner() as runner, collector_paused():
        runner.run(run_in_stack(program))


class _Listener(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.lines.append(record.getMessage())


# --- The program of this checkout -----------------------------------------------------------------


def main() -> None:
    """``__main__.py``, as the language host runs it."""
    runpy.run_path(str(CHECKOUT / "__main__.py"), run_name="__main__")


def configuration(stack: str) -> Json:
    """A stack's configuration, as it is written."""
    text = (CHECKOUT / "stacks" / f"Pulumi.{stack}.yaml").read_text()
    config: Json = yaml.safe_load(text)["config"]
    return config


def created() -> Json:
    """lux-k8s, were it made on DigitalOcean: as the example in docs/deploy.md says it."""
    lines = (CHECKOUT / "docs" / "deploy.md").read_text().splitlines()
    first = lines.index("    hanzo-zt:kubernetes:")
    example = itertools.takewhile(lambda line: line.startswith("    "), lines[first:])
    over: Json = yaml.safe_load("\n".join(example))
    assert over["hanzo-zt:kubernetes"].keys() == {"create"}
    return {**configuration("lux-k8s"), **over}


def as_given(config: Mapping[str, Any]) -> dict[str, str]:
    """Configuration as Pulumi hands it to a program: JSON, where it is more than text."""
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()
    }


def with_kubeconfig(config: Json, folder: Path) -> Json:
    """The same, where the kubeconfig of an adopted cluster is a file that exists."""
    adopt = config["hanzo-zt:kubernetes"].get("adopt")
    if adopt is None:
        return config
    context = adopt.get("context", "a-cluster")
    path = folder / "kubeconfig"
    path.write_text(f"contexts:\n- name: {context}\n")
    return {**config, "hanzo-zt:kubernetes": {"adopt": {**adopt, "kubeconfig": str(path)}}}


def texts(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """All texts inside a JSON value, with their paths."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts(item, f"{path}[{index}]")
