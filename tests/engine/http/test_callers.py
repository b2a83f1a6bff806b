from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.http.callers import (
    EXTENSION,
    LOCAL,
    NOBODY,
    Action,
    Caller,
    allowed,
    caller_of,
    reason_of,
)
from engine.policy.table import empty_snapshot
from tests.engine.http.serving import (
    ON_CALL,
    PROMETHEUS,
    READER,
    SERVICE,
    STRANGER,
    WITH_RIGHTS,
    WRITER,
)
from tests.engine.samples import in_force

SNAPSHOT = in_force(WITH_RIGHTS)
PARTIES = (READER, WRITER, ON_CALL, SERVICE, PROMETHEUS)


def verdict(caller: Caller, action: Action, *about: str) -> str:
    problem = allowed(caller, SNAPSHOT, action, about)
    return "" if problem is None else reason_of(problem)


@pytest.mark.parametrize(
    ("who", "action", "expected"),
    [
        (READER, Action.READ, ""),
        (READER, Action.ASK, ""),
        (READER, Action.METRICS, ""),
        (READER, Action.WRITE, "not_allowed"),
        (WRITER, Action.WRITE, ""),
        (WRITER, Action.READ, "not_allowed"),
        (WRITER, Action.ASK, "not_allowed"),
        (ON_CALL, Action.READ, "step_up_required"),
        (ON_CALL, Action.WRITE, "step_up_required"),
        (ON_CALL, Action.ASK, "step_up_required"),
        (PROMETHEUS, Action.METRICS, ""),
        (PROMETHEUS, Action.READ, "not_allowed"),
        (SERVICE, Action.METRICS, "not_allowed"),
        (SERVICE, Action.DESCRIBE, ""),
        (STRANGER, Action.DESCRIBE, "unknown_caller"),
        (STRANGER, Action.READ, "unknown_caller"),
        ("external:internet", Action.READ, "not_allowed"),
    ],
)
def test_what_a_certificate_lets_its_owner_do(who: str, action: Action, expected: str) -> None:
    assert verdict(Caller(who), action, "spiffe://x/a/b/c", "spiffe://x/d/e/f") == expected


@given(st.sampled_from(PARTIES), st.sampled_from(PARTIES), st.sampled_from(PARTIES))
def test_a_service_asks_about_itself_and_readers_about_all(
    who: str, source: str, destination: str
) -> None:
    passes = verdict(Caller(who), Action.ASK, source, destination) == ""
    assert passes == (who in (source, destination, READER) or who == READER)


@given(st.text() | st.none(), st.sampled_from(Action))
def test_whom_nobody_declares_may_do_nothing(who: str | None, action: Action) -> None:
    assert verdict(Caller(who), action, who or "", who or "") == "unknown_caller"


@given(st.sampled_from(Action))
def test_whoever_is_local_may_do_everything(action: Action) -> None:
    assert allowed(LOCAL, SNAPSHOT, action) is None
    assert allowed(LOCAL, empty_snapshot(), action) is None


@given(st.sampled_from(PARTIES), st.sampled_from(Action))
def test_without_a_policy_nobody_with_a_certificate_is_known(who: str, action: Action) -> None:
    problem = allowed(Caller(who), empty_snapshot(), action, (who, who))
    assert problem is not None
    assert reason_of(problem) == "unknown_caller"


@pytest.mark.parametrize(
    ("extensions", "expected"),
    [
        ({}, NOBODY),
        ({EXTENSION: LOCAL}, LOCAL),
        ({EXTENSION: Caller(READER)}, Caller(READER)),
        ({EXTENSION: {"local": True}}, NOBODY),
        ({EXTENSION: SimpleNamespace(local=True, spiffe=None)}, NOBODY),
    ],
)
def test_only_a_protocol_says_who_calls(extensions: dict[str, object], expected: Caller) -> None:
    headers = [(b"x-forwarded-client-cert", f"URI={READER}".encode()), (b"zt.caller", b"local")]
    assert caller_of({"headers": headers, "extensions": extensions}) == expected
    assert caller_of({"headers": headers}) == NOBODY
