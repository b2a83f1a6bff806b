from typing import Any

from lab.nodes.endpoints import left_out_of


def test_a_pod_that_a_service_does_not_lead_to_is_left_out() -> None:
    def endpoint(name: str, **conditions: bool) -> dict[str, Any]:
        target = {"kind": "Pod", "namespace": "hanzo", "name": name}
        return {"addresses": ["10.240.1.1"], "conditions": conditions, "targetRef": target}

    of_a_host = {"addresses": ["192.0.2.1"], "conditions": {"ready": False}}
    slices: list[dict[str, Any]] = [
        {"endpoints": [endpoint("iam-z", ready=True), endpoint("chat-z", ready=False)]},
        {"endpoints": [endpoint("chat-z", ready=True), endpoint("flow-z"), of_a_host]},
        {"endpoints": None},
    ]
    assert set(left_out_of(slices)) == {"hanzo/chat-z"}
