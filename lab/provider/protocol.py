"""The engine's calls, each answered as the official provider does.

A call about a resource carries its URN: kind and name in Pulumi. Its identity in Kubernetes is in
the inputs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import plugin_pb2, provider_pb2
from pulumi.runtime.proto.provider_pb2_grpc import ResourceProviderServicer

from lab.cluster.client import NOT_FOUND
from lab.cluster.model import LabError
from lab.provider import objects
from lab.provider.access import client
from lab.provider.cluster import Cluster, Refused, Warned
from lab.provider.objects import Mode, identity_of
from lab.provider.shape import Difference, Kind, cut, differences, property_path, replaces
from lab.provider.state import Known, manager_in, manager_of, normal, read, secrets_of, written
from lab.provider.values import Json, decoded, encoded, has_unknown, value_in

VERSION = "4.34.2"  # of the official provider, whose place it takes
_PATCH = "Patch"
_LOG = logging.getLogger(__name__)
_KINDS = {
    Kind.ADD: provider_pb2.PropertyDiff.ADD,
    Kind.DELETE: provider_pb2.PropertyDiff.DELETE,
    Kind.UPDATE: provider_pb2.PropertyDiff.UPDATE,
}
_REPLACING = {
    Kind.ADD: provider_pb2.PropertyDiff.ADD_REPLACE,
    Kind.DELETE: provider_pb2.PropertyDiff.DELETE_REPLACE,
    Kind.UPDATE: provider_pb2.PropertyDiff.UPDATE_REPLACE,
}
_CONTENT = {"ConfigMap": "enableConfigMapMutable", "Secret": "enableSecretMutable"}

Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Configured:
    """One provider of a program. ``mutable`` says of which kinds content may change in place."""

    cluster: Cluster
    force: bool
    mutable: Mapping[str, bool]


@dataclass
class Desk:
    """What all calls share. With ``strict`` warnings are refused; ``warn`` hears them all."""

    strict: bool
    warn: Callable[[Warned], None]
    # Each provider of a program has a connection of its own, by which its calls are known.
    _providers: dict[str, Configured] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def configure(self, peer: str, asked: Mapping[str, Any]) -> None:
        """Take a provider's arguments.

        Raises:
            LabError: if they lead to no API server.
        """
        http = client(asked.get("kubeconfig") or "~/.kube/config", asked.get("context"))
        found = Configured(
            cluster=Cluster(http, strict=self.strict, warn=self.warn),
            force=_is_true(asked.get("enablePatchForce")),
            mutable={kind: _is_true(asked.get(name)) for kind, name in _CONTENT.items()},
        )
        with self._lock:
            self._providers[peer] = found

    def provider(self, peer: str) -> Configured:
        """Whose call it is."""
        with self._lock:
            return self._providers[peer]

    def close(self) -> None:
        """Close all connections to API servers."""
        with self._lock:
            for configured in self._providers.values():
                configured.cluster.http.close()


class Provider(ResourceProviderServicer):
    """``kubernetes:*`` for the engine."""

    def __init__(self, desk: Desk) -> None:
        """Keep what calls share."""
        self._desk = desk

    # --- The provider itself ---

    def Handshake(  # noqa: N802
        self, request: provider_pb2.ProviderHandshakeRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ProviderHandshakeResponse:
        """Say what is understood: secrets, but neither resources nor outputs as values."""
        del request, context
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def Attach(self, request: plugin_pb2.PluginAttach, context: grpc.ServicerContext) -> Empty:  # noqa: N802
        """Serve one more engine."""
        del request, context
        return Empty()

    def GetPluginInfo(  # noqa: N802
        self, request: Empty, context: grpc.ServicerContext
    ) -> plugin_pb2.PluginInfo:
        """Say which version's place it takes."""
        del request, context
        return plugin_pb2.PluginInfo(version=VERSION)

    def CheckConfig(  # noqa: N802
        self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CheckResponse:
        """Take the arguments as they are."""
        del context
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(  # noqa: N802
        self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext
    ) -> provider_pb2.DiffResponse:
        """Other arguments are no other provider: a kubeconfig may move, or be renewed."""
        del context
        same = request.olds == request.news
        none, some = provider_pb2.DiffResponse.DIFF_NONE, provider_pb2.DiffResponse.DIFF_SOME
        return provider_pb2.DiffResponse(changes=none if same else some)

    def Configure(  # noqa: N802
        self, request: provider_pb2.ConfigureRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ConfigureResponse:
        """Open the way to the API server."""
        asked, _ = decoded(request.args)

        def configure() -> provider_pb2.ConfigureResponse:
            self._desk.configure(context.peer(), asked)
            return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

        return _answered(context, configure)

    def Cancel(self, request: Empty, context: grpc.ServicerContext) -> Empty:  # noqa: N802
        """Nothing that is under way takes long, but deletions; those stop with the connection."""
        del request, context
        return Empty()

    # --- Resources ---

    def Check(  # noqa: N802
        self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CheckResponse:
        """Each object has its name from the program; none is invented."""
        del context
        answer = provider_pb2.CheckResponse(inputs=_with_secrets(request.news))
        if not (value_in(request.news, "metadata") or {}).get("name"):
            answer.failures.add(property="metadata.name", reason="an object needs a name")
        return answer

    def Diff(  # noqa: N802
        self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext
    ) -> provider_pb2.DiffResponse:
        """Compare the object as it was last seen with what is asked for."""
        known = read(request.olds, request.old_inputs, request.urn)
        inputs = normal(decoded(request.news)[0])
        configured = self._desk.provider(context.peer())
        found = [
            difference
            for difference in differences(cut(known.live, normal(known.inputs)), inputs)
            if not _is_ignored(difference, request.ignoreChanges)
        ]
        return _difference(found, inputs, configured, patch=_is_patch(request.urn, inputs))

    def Create(  # noqa: N802
        self, request: provider_pb2.CreateRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CreateResponse:
        """Make an object, or apply fields to one; in a preview try to."""
        configured = self._desk.provider(context.peer())
        known, patch = _asked(request.properties, request.urn)
        if request.preview and (patch or has_unknown(known.inputs)):
            return provider_pb2.CreateResponse(properties=request.properties)
        mode = Mode(force=configured.force, dry=request.preview)

        def create() -> provider_pb2.CreateResponse:
            made = (objects.patch if patch else objects.create)(configured.cluster, known, mode)
            id_ = "" if request.preview else identity_of(made.live)
            return provider_pb2.CreateResponse(
                id=id_, properties=written(_previewed(made, request.preview))
            )

        def cannot_try(error: Refused) -> provider_pb2.CreateResponse | None:
            """Its namespace or definition is to come, or an object goes before it is made anew."""
            later = error.status == NOT_FOUND or error.reason == "AlreadyExists"
            if not (request.preview and later):
                return None
            return provider_pb2.CreateResponse(properties=request.properties)

        return _answered(context, create, cannot_try)

    def Update(  # noqa: N802
        self, request: provider_pb2.UpdateRequest, context: grpc.ServicerContext
    ) -> provider_pb2.UpdateResponse:
        """Change an object in place; in a preview try to."""
        configured = self._desk.provider(context.peer())
        known, patch = _asked(request.news, request.urn)
        known = replace(known, manager=manager_in(request.olds, request.urn))
        if request.preview and has_unknown(known.inputs):
            return provider_pb2.UpdateResponse(properties=request.news)
        mode = Mode(force=configured.force, dry=request.preview)

        def update() -> provider_pb2.UpdateResponse:
            made = (objects.patch if patch else objects.update)(configured.cluster, known, mode)
            return provider_pb2.UpdateResponse(
                properties=written(_previewed(made, request.preview))
            )

        return _answered(context, update)

    def Read(  # noqa: N802
        self, request: provider_pb2.ReadRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ReadResponse:
        """See how an object is now; an answer without an ID says that it is gone."""
        configured = self._desk.provider(context.peer())
        inputs, secrets = decoded(request.inputs)
        manager = manager_in(request.properties, request.urn)
        known = Known({}, normal(inputs), manager, secrets)

        def look() -> provider_pb2.ReadResponse:
            found = objects.read(configured.cluster, known)
            if found is None:
                return provider_pb2.ReadResponse()
            return provider_pb2.ReadResponse(
                id=request.id,
                properties=written(found),
                inputs=encoded(found.inputs, secrets_of(found.inputs, secrets)),
            )

        return _answered(context, look)

    def Delete(  # noqa: N802
        self, request: provider_pb2.DeleteRequest, context: grpc.ServicerContext
    ) -> Empty:
        """Delete an object, or give up the fields of one that others own."""
        configured = self._desk.provider(context.peer())
        known = read(request.properties, request.old_inputs, request.urn)
        patch = _is_patch(request.urn, known.live)

        def delete() -> Empty:
            (objects.release if patch else objects.delete)(configured.cluster, known)
            return Empty()

        return _answered(context, delete)


# --- Helpers --------------------------------------------------------------------------------------


def _answered(
    context: grpc.ServicerContext,
    call: Callable[[], Answer],
    otherwise: Callable[[Refused], Answer | None] = lambda _: None,
) -> Answer:
    """The answer; or the refusal as the engine shows it."""
    try:
        return call()
    except Refused as error:
        answer = otherwise(error)
        if answer is None:
            _abort(context, error)
        return answer
    except LabError as error:
        _abort(context, error)


def _abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    context.abort(grpc.StatusCode.UNKNOWN, str(error))
    raise error


def _with_secrets(properties: Struct) -> Struct:
    """Inputs with all marked that is secret. The engine asks for one object after another."""
    if value_in(properties, "kind") != "Secret":
        return properties
    inputs, secrets = decoded(properties)
    return encoded(inputs, secrets_of(inputs, secrets))


def _asked(properties: Any, urn: str) -> tuple[Known, bool]:  # noqa: ANN401 - a Struct
    """What a program asks for, and whether it is a patch."""
    inputs, secrets = decoded(properties)
    return Known({}, normal(inputs), manager_of(urn), secrets), _is_patch(urn, inputs)


def _is_patch(urn: str, manifest: Json) -> bool:
    """Whether a resource sets fields of others' objects: its kind in Pulumi ends so."""
    kind = urn.split("::")[2].rpartition(":")[2]
    return kind == f"{manifest.get('kind')}{_PATCH}"


def _previewed(made: Known, preview: bool) -> Known:  # noqa: FBT001 - as the engine says it
    """What was only tried has no status yet, and what the server gave it is not its own."""
    if not preview:
        return made
    live = {key: value for key, value in made.live.items() if key != "status"}
    return replace(made, live=live)


def _is_ignored(difference: Difference, ignored: Any) -> bool:  # noqa: ANN401 - repeated strings
    path = property_path(difference.path)
    return any(path == name or path.startswith((f"{name}.", f"{name}[")) for name in ignored)


def _difference(
    found: list[Difference], inputs: Json, configured: Configured, *, patch: bool
) -> provider_pb2.DiffResponse:
    some, none = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
    answer = provider_pb2.DiffResponse(changes=some if found else none, hasDetailedDiff=True)
    moved = False
    for difference in found:
        path = property_path(difference.path)
        replacing = replaces(inputs, difference.path, patch=patch, mutable=configured.mutable)
        kinds = _REPLACING if replacing else _KINDS
        answer.detailedDiff[path].kind = kinds[difference.kind]
        if replacing:
            answer.replaces.append(path)
            moved |= difference.path[0] in ("apiVersion", "kind", "metadata")
    # Two objects can't have one name.
    answer.deleteBeforeReplace = bool(answer.replaces) and not moved
    return answer


def _is_true(value: Any) -> bool:  # noqa: ANN401 - the SDK sends text
    return value in (True, "true")
