from lab.faults.change import Change, Changes, as_json, measured
from lab.faults.tally import Edge, Event, Flow, Seen, Side, Sums

EDGE = Edge("spiffe://hanzo.ai/c/team/a", "spiffe://hanzo.ai/c/team/b", 80)
GRANTED = Flow(EDGE, "team/a-0", frozenset({"team/a-0"}), declared=False, how="granted")
OTHER = Flow(EDGE._replace(port=81), "team/a-0", frozenset({"team/a-0"}))
SUMS = Sums(tried=10, failed=0)


def event(at: float, side: Side, error: str | None = None) -> Event:
    return Event(at, side, 0.01, error)


def change(*flows: Seen, steady: bool = True) -> Change:
    return measured(flows, {GRANTED}, (100.0, 110.0), 9.5, steady=steady)


def granted(new: float, kept: float) -> Seen:
    events = (
        event(1, Side.NEW, "refused"),
        event(1, Side.KEPT, "refused"),
        event(99, Side.NEW, "refused"),
        event(kept - 1, Side.KEPT, "refused"),
        event(kept, Side.KEPT),
        event(new, Side.NEW),
    )
    return Seen(GRANTED, events, SUMS, SUMS)


def other(*events: Event) -> Seen:
    return Seen(OTHER, events, SUMS, SUMS)


def test_a_grant_is_in_force_when_its_last_flow_is_answered_on_both_sides() -> None:
    found = change(granted(112, 111.5), other(event(1, Side.NEW), event(1, Side.KEPT)))
    assert (found.new, found.kept) == ((2.0,), (1.5,))
    assert found.last == 2.0
    assert (found.cut, found.failed) == ((), ())


def test_a_revocation_is_in_force_when_the_kept_connection_has_ended() -> None:
    events = (
        event(50, Side.NEW),
        event(50, Side.KEPT),
        event(111, Side.NEW, "reset"),
        event(114, Side.KEPT, "closed"),
        event(115, Side.KEPT, "refused"),
    )
    found = change(Seen(GRANTED, events, SUMS, SUMS))
    assert (found.new, found.kept, found.last) == ((1.0,), (4.0,), 4.0)


def test_what_never_turns_is_not_in_force() -> None:
    found = change(Seen(GRANTED, (event(1, Side.NEW), event(1, Side.KEPT)), SUMS, SUMS))
    assert found.concerned == 1
    assert found.last is None


def test_what_else_is_cut_meanwhile_counts_and_what_was_before_does_not() -> None:
    before = (event(1, Side.KEPT), event(2, Side.KEPT, "closed"), event(3, Side.KEPT))
    found = change(other(*before, event(105, Side.KEPT, "closed"), event(106, Side.KEPT)))
    assert len(found.cut) == 1


def test_a_grant_must_cut_nothing_and_both_must_keep_their_bound() -> None:
    well, late = change(granted(112, 111.5)), change(granted(180, 111.5))
    cut = change(granted(112, 112), other(event(1, Side.KEPT), event(105, Side.KEPT, "closed")))
    assert Changes(well, cut, well).surprises == ()
    assert as_json(Changes(well, cut, well))["revocation"]["others_cut"] == 1
    assert Changes(cut, well, well).surprises == ("the grant cut team/a -> team/b:81: closed",)
    assert Changes(well, late, well).surprises == ("the revocation took 70.0 s, and not 60 s",)
    assert Changes(well, well, late).surprises == (
        "the revocation by sidecars alone took 70.0 s, and not 60 s",
    )
    assert Changes(well, change(granted(112, 112), steady=False), well).surprises == (
        "after the revocation other flows were not steady",
    )
