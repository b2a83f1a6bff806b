"""The messages of the SPIFFE Workload API that FetchX509SVID speaks (SPIFFE, Workload API, 5.1).

They are three, with five fields that matter here: made from a descriptor, no generator is needed.
Fields that are left out (CRLs, bundles of federated trust domains) are skipped when read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

METHOD = "/SpiffeWorkloadAPI/FetchX509SVID"
# The agent refuses a call without it, so that no browser or proxy can be tricked into one.
METADATA = (("workload.spiffe.io", "true"),)
# X509SVIDRequest has no fields.
REQUEST = b""

_STRING, _BYTES, _MESSAGE = (
    FieldDescriptorProto.TYPE_STRING,
    FieldDescriptorProto.TYPE_BYTES,
    FieldDescriptorProto.TYPE_MESSAGE,
)


class Given(NamedTuple):
    """An X.509-SVID as the agent gives it, in DER: certificates follow each other."""

    spiffe: str
    chain: bytes
    key: bytes
    bundle: bytes


class MessageError(Exception):
    """What came is no X509SVIDResponse; the message is a sentence."""


def given_in(message: bytes) -> tuple[Given, ...]:
    """The SVIDs of a response; the first is the default (SPIFFE, Workload API, 5.3).

    Raises:
        MessageError: if it is none.
    """
    response: Any = _RESPONSE()
    try:
        response.ParseFromString(message)
    except DecodeError as error:
        raise MessageError(f"the Workload API sent what is no X509SVIDResponse: {error}") from None
    return tuple(
        Given(svid.spiffe_id, svid.x509_svid, svid.x509_svid_key, svid.bundle)
        for svid in response.svids
    )


def response_of(*svids: Given) -> bytes:
    """A response, as an agent makes it."""
    response: Any = _RESPONSE()
    for svid in svids:
        response.svids.add(
            spiffe_id=svid.spiffe,
            x509_svid=svid.chain,
            x509_svid_key=svid.key,
            bundle=svid.bundle,
        )
    return bytes(response.SerializeToString())


def _described() -> FileDescriptorProto:
    """The part of workload.proto that is used; it has no package."""
    file = FileDescriptorProto(name="zt/workload.proto", syntax="proto3")
    svid = file.message_type.add(name="X509SVID")
    _field(svid, 1, "spiffe_id", _STRING)
    for number, name in enumerate(("x509_svid", "x509_svid_key", "bundle"), 2):
        _field(svid, number, name, _BYTES)
    response = file.message_type.add(name="X509SVIDResponse")
    svids = _field(response, 1, "svids", _MESSAGE)
    svids.label, svids.type_name = FieldDescriptorProto.LABEL_REPEATED, ".X509SVID"
    return file


def _field(
    message: DescriptorProto, number: int, name: str, kind: FieldDescriptorProto.Type.ValueType
) -> FieldDescriptorProto:
    return message.field.add(
        name=name, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL
    )


def _response_class() -> type[Any]:
    """In a pool of its own, so that no other file of these names can be in its way."""
    pool: Any = DescriptorPool()
    pool.Add(_described())
    return GetMessageClass(pool.FindMessageTypeByName("X509SVIDResponse"))


_RESPONSE = _response_class()
