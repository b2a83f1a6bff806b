"""What a rotation of the CAs comes to, for people and programs."""

from lab.ca.report import Rotated, Stage, as_json
from lab.faults.tally import Edge, Event, Flow, Seen, Side, Sums, tally

HERE = "spiffe://hanzo.ai/hanzo-k8s/hanzo"
NEAR = Edge(f"{HERE}/chat", f"{HERE}/iam", 8000)
FAR = Edge("spiffe://hanzo.ai/lux-k8s/lux/validator", f"{HERE}/gateway", 4000)


def seen(edge: Edge, *, error: str | None = None) -> Seen:
    events = (Event(1.0, Side.KEPT, 0.1), Event(2.0, Side.NEW, 0.1, error))
    flow = Flow(edge, "hanzo/a-1", frozenset({"hanzo/a-1"}))
    return Seen(flow, events, Sums(10, int(error is not None)), Sums(20, 0))


def rotated(*flows: Seen) -> Rotated:
    across = [item for item in flows if item.flow.edge.crosses]
    return Rotated((Stage("root-2 beside root-1", 90.0),), tally(flows), tally(across))


def test_what_crosses_the_tunnel_is_told_by_itself() -> None:
    found = as_json(rotated(seen(NEAR), seen(FAR)))
    assert found["held"]
    assert (found["opened"], found["across"]["opened"]) == (22, 11)
    assert found["stages"] == [{"name": "root-2 beside root-1", "seconds": 90.0}]


def test_one_connection_that_fails_is_a_surprise() -> None:
    found = as_json(rotated(seen(NEAR), seen(FAR, error="reset")))
    assert not found["held"]
    assert found["surprises"] == ["lux/validator -> hanzo/gateway:4000: reset"]
    assert (found["failed"], found["across"]["failed"]) == (1, 1)
