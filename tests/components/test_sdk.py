"""What would make a program of a thousand resources slow is out of its way."""

import gc

import pulumi
from pulumi.runtime import settings
from pulumi.runtime.proto import engine_pb2

from components import sdk
from components.kube import register
from tests.components.registered import run

RESOURCES = 200


class Engine:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def Log(self, request: engine_pb2.LogRequest) -> str:  # noqa: N802 - gRPC's
        self.said.append(request.message)
        return "logged"

    def GetRootResource(self, _request: object) -> str:  # noqa: N802 - gRPC's
        return "the stack"


class Many(pulumi.ComponentResource):
    """A component with very many objects."""

    def __init__(self) -> None:
        super().__init__("hanzo-zt:components:Many", "many")
        for number in range(RESOURCES):
            metadata = {"name": f"map-{number}", "namespace": "hanzo"}
            register({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}, self)
        self.register_outputs({})


def test_only_debug_lines_are_dropped() -> None:
    engine = Engine()
    quiet = sdk.Quiet(engine)
    for severity, message in ((engine_pb2.DEBUG, "registering"), (engine_pb2.WARNING, "beware")):
        quiet.Log(engine_pb2.LogRequest(severity=severity, message=message))
    assert engine.said == ["beware"]
    assert quiet.GetRootResource(None) == "the stack"


def test_registrations_have_begun_when_the_sdk_begins_to_wait() -> None:
    """What has not, it does not know of: it would wait for any output, again and again."""
    begun: list[int] = []

    async def program() -> None:
        Many()
        begun.append(len(settings.SETTINGS.rpc_manager.rpcs))
        await sdk.begin()
        begun.append(len(settings.SETTINGS.rpc_manager.rpcs))

    seen = run(program, "a-stack", {})
    assert len(seen.resources) == RESOURCES + 1
    before, after = begun
    assert before == 0
    assert after > RESOURCES


def test_what_is_set_for_a_program_is_gone_with_it() -> None:
    before = settings.get_engine()

    async def program() -> None:
        sdk.prepare()
        assert isinstance(settings.get_engine(), sdk.Quiet)
        assert not gc.isenabled()

    run(program, "a-stack", {})
    assert settings.get_engine() is before
    assert gc.isenabled()
