import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from engine.locate import (
    Location,
    LocationFile,
    Locations,
    live_sign,
    parse_locations,
    surroundings,
)
from tests.engine.samples import CAUTIOUS, LOCATIONS, policy
from zt.load import load_policy

POLICIES = Path(__file__).parents[2] / "policies"
POD = {"pod": "web-1", "node": "n1", "spiffe": "spiffe://hanzo.ai/east/shop/web"}
WEB_1 = Location(POD["pod"], POD["node"], POD["spiffe"])


def test_an_address_is_found_in_each_of_its_forms() -> None:
    expected = LOCATIONS.find("10.0.0.1")
    assert expected is not None
    assert expected.pod == "web-1"
    assert LOCATIONS.find("::ffff:10.0.0.1") == expected
    assert LOCATIONS.find("10.0.0.99") is None
    assert LOCATIONS.find("/run/envoy.sock") is None
    assert LOCATIONS.find("") is None


def test_the_canary_is_the_first_pod_by_name_not_by_address() -> None:
    assert LOCATIONS.canaries[CAUTIOUS] == "cautious-1"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.7", "office"),
        ("2001:db8::1", "office"),
        ("198.51.100.1", "internet"),
        ("2001:db9::1", None),
        ("10.0.3.4", None),
        ("::ffff:10.0.3.4", None),
        ("not an address", None),
    ],
)
def test_the_most_specific_network_names_what_is_outside_and_no_pod_is(
    address: str, name: str | None
) -> None:
    assert surroundings(policy()).external(address) == name


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"10.0.0.1": "web"}',
        '{"10.0.0.1": {"pod": "web-1"}}',
        json.dumps({"10.0.0.1": POD | {"zone": "a"}}),
        json.dumps({"web": POD}),
    ],
)
def test_a_bad_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - several sentences, all of them ValueError's
        parse_locations(text)


def test_the_file_is_followed_and_a_bad_change_leaves_the_last_good_table(tmp_path: Path) -> None:
    path = tmp_path / "locations.json"
    file = LocationFile(path)
    file.refresh()
    assert file.current == Locations()

    path.write_text(json.dumps({"10.0.0.1": POD}))
    file.refresh()
    assert file.current.find("10.0.0.1") == WEB_1

    good = file.current
    path.write_text("{")
    file.refresh()
    assert file.current is good

    path.write_text(json.dumps({"10.0.0.2": POD}))
    os.utime(path, (1, 1))
    file.refresh()
    assert file.current.find("10.0.0.1") is None
    assert file.current.find("10.0.0.2") == WEB_1


def test_a_table_is_live_while_its_keeper_is_heard_of(tmp_path: Path) -> None:
    path = tmp_path / "locations.json"
    path.write_text(json.dumps({"10.0.0.1": POD}))
    file = LocationFile(path)
    assert file.refresh()
    assert not file.current.live

    live_sign(path).touch()
    assert file.refresh()
    assert file.current.live
    assert file.current.find("10.0.0.1") == WEB_1
    # Heard of again, it is the same: what was prepared from it stays.
    live_sign(path).touch()
    assert not file.refresh()

    path.write_text(json.dumps({"10.0.0.2": POD}))
    assert file.refresh()
    assert file.current.live

    path.write_text("{")
    assert file.refresh()
    assert not file.current.live

    path.write_text(json.dumps({"10.0.0.2": POD | {"leaving": True}}))
    long_ago = time.time() - 16
    os.utime(live_sign(path), (long_ago, long_ago))
    assert file.refresh()
    assert not file.current.live
    assert file.current.find("10.0.0.2") == replace(WEB_1, leaving=True)


def test_the_gateways_are_those_of_the_policy() -> None:
    assert surroundings(load_policy(POLICIES)).gateways == {
        "spiffe://hanzo.ai/hanzo-k8s/hanzo/wg-gateway",
        "spiffe://hanzo.ai/lux-k8s/lux/wg-gateway",
    }


def test_without_a_file_nobody_is_known() -> None:
    file = LocationFile(None)
    file.refresh()
    assert file.current == Locations()
