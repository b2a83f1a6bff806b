"""What is read of the Workload API's messages."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.spire.messages import Given, MessageError, given_in, response_of

SVIDS = st.builds(Given, st.text(max_size=40), st.binary(), st.binary(), st.binary())


@given(st.lists(SVIDS, max_size=3))
def test_what_was_said_is_read(svids: list[Given]) -> None:
    assert given_in(response_of(*svids)) == tuple(svids)


def test_the_wire_is_the_standards() -> None:
    """Field numbers as workload.proto has them; what we don't use is skipped."""
    svid = b"\x0a\x01s" + b"\x12\x01c" + b"\x1a\x01k" + b"\x22\x01b" + b"\x2a\x04hint"
    crl, federated = b"\x12\x03crl", b"\x1a\x08" + b"\x0a\x02td" + b"\x12\x02fb"
    message = b"\x0a" + bytes([len(svid)]) + svid + crl + federated
    assert given_in(message) == (Given("s", b"c", b"k", b"b"),)


@given(st.binary())
def test_whatever_comes_is_read_or_refused(message: bytes) -> None:
    with suppress(MessageError):
        assert all(isinstance(svid, Given) for svid in given_in(message))


def test_bytes_that_end_too_early_are_refused() -> None:
    with pytest.raises(MessageError):
        given_in(b"\x0a\x05sho")
