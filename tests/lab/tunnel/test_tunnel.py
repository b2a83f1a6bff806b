"""A real tunnel between real gateways: keys rotate, gateways die, paths break, and it is back."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.tunnel.book import Book, Step, book_of
from lab.cluster.network import entered
from lab.tunnel.traffic import answers, pinging, streaming
from tests.lab.tunnel.site import Gateway, Site, eventually, move, run, site

# Within so many seconds of the end of its cause a failure is over.
BACK = 10.0
BLOCKED = 30.0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("tunnel")) as made:
        made.join()
        yield made


@pytest.fixture
def joined(built: Site) -> Site:
    """The gateways, of which nothing is left of the test before."""
    eventually(lambda: all(one.status["step"] is None for one in built))
    a, b = built
    eventually(lambda: a.is_up(b) and b.is_up(a))
    return built


def calm(joined: Site, lane: int) -> bool:
    """Whether all are on a lane, have no other, and no rotation is under way."""
    states = [one.status for one in joined]
    return all((item["step"], item["lane"]) == (None, lane) for item in states) and all(
        _interfaces(one) == {f"wg{lane}"} for one in joined
    )


def test_keys_rotate_three_times_and_nothing_is_lost(joined: Site) -> None:
    a, b = joined
    keys, lane = [(a.public, b.public)], a.status["lane"]
    with pinging(a.end, b.end) as pings, streaming(b.end, a.end) as stream:
        time.sleep(0.5)
        for turn in (a, b, a):
            before = stream.received
            assert turn.tell("rotate").split()[-2] == "done"
            lane = 1 - lane
            eventually(partial(calm, joined, lane))
            keys.append((a.public, b.public))
            assert stream.received > before
    assert pings.sent == pings.received > 300
    assert stream.broken == []
    # Each time the key of that one alone is another.
    assert [x[0] != y[0] for x, y in pairwise(keys)] == [True, False, True]
    assert [x[1] != y[1] for x, y in pairwise(keys)] == [False, True, False]
    # What KMS has of older keys is read by nobody any more.
    assert [len(_versions(one)) for one in joined] == [1, 1]


@pytest.mark.parametrize(
    "step", [Step.STAGED, Step.VERIFIED, Step.SWITCHED, Step.DRAINING, Step.SETTLING]
)
@pytest.mark.parametrize("who", [0, 1])
def test_whoever_is_killed_at_a_step_goes_on_there(step: Step, who: int, joined: Site) -> None:
    one = joined.gateways[who]
    before, lane = [item.public for item in joined], one.status["lane"]
    a, b = joined
    # As if it had been killed right after that step was kept.
    _until(a, one, step)
    one.kill()
    time.sleep(0.3)
    one.start()
    eventually(partial(calm, joined, 1 - lane), 60)
    assert answers(a.end, b.end)
    after = [item.public for item in joined]
    assert after[0] != before[0]
    assert after[1] == before[1]


def _until(a: Gateway, one: Gateway, step: Step) -> None:
    """Begin at the first, and wait until one is at a step; the last is over in no time."""
    turn = _kept(one).turn
    a.command("rotate")
    eventually(lambda: _has_come(_kept(one), turn, step))


def _has_come(kept: Book, turn: int, step: Step) -> bool:
    if kept.step is None:
        return kept.turn > turn
    order = [*Step]
    return order.index(kept.step) >= order.index(step)


def _kept(one: Gateway) -> Book:
    newest = max((one.folder / "kms" / one.name).iterdir(), key=_number)
    return book_of(json.loads(newest.read_text())["book"])


def _number(path: Path) -> int:
    return int(path.stem) if path.stem.isdigit() else 0


def _versions(one: Gateway) -> list[Path]:
    folder = one.folder / "kms" / one.name
    return [path for path in folder.iterdir() if path.name.isdigit()]


def _interfaces(one: Gateway) -> set[str]:
    listed = json.loads(run("ip", "-n", one.namespace, "-json", "link", "show"))
    return {item["ifname"] for item in listed if item["ifname"].startswith("wg")}


def test_a_rotation_that_is_called_off_leaves_all_as_it_was(joined: Site) -> None:
    a, b = joined
    before, lane = [one.public for one in joined], a.status["lane"]
    # With the peer's packets dropped, it can't go on by itself.
    _block(b)
    a.command("rotate")
    assert a.status["step"] == "staged"
    a.command("call-off")
    _unblock(b)
    eventually(partial(calm, joined, lane), 60)
    assert [one.public for one in joined] == before
    assert answers(a.end, b.end)


def test_udp_that_is_blocked_comes_back_at_once(joined: Site) -> None:
    a, b = joined
    assert a.is_up(b)
    _block(b)
    down = eventually(lambda: not a.is_up(b), 15)
    assert down < 12
    time.sleep(max(0.0, BLOCKED - down))
    _unblock(b)
    assert eventually(lambda: answers(a.end, b.end), 15) < BACK
    assert eventually(lambda: a.is_up(b) and b.is_up(a), 15) < BACK


def test_a_gateway_that_is_killed_is_back_at_once(joined: Site) -> None:
    a, b = joined
    b.kill()
    eventually(lambda: not a.is_up(b), 15)
    b.start()
    assert eventually(lambda: answers(a.end, b.end), 15) < BACK
    assert eventually(lambda: a.is_up(b), 15) < BACK


def test_a_peer_that_moves_is_found(joined: Site) -> None:
    a, b = joined
    # By what it sends; and by what the stack says, while it is silent.
    move(b, "192.0.2.77")
    assert eventually(lambda: answers(a.end, b.end), 15) < BACK
    b.host = "192.0.2.78"
    a.write_peers(b)
    b.kill()
    move(b, b.host)
    b.start()
    assert eventually(lambda: answers(a.end, b.end), 15) < BACK


def test_metrics(joined: Site) -> None:
    a, b = joined
    answers(a.end, b.end)
    found = a.metrics()
    assert found['zt_wireguard_peer_up{cluster="b"}'] == 1
    assert found['zt_wireguard_received_bytes_total{cluster="b"}'] > 0
    assert found['zt_wireguard_sent_bytes_total{cluster="b"}'] > 0
    assert 0 <= found['zt_wireguard_handshake_age_seconds{cluster="b"}'] < 60
    assert 0 <= found["zt_wireguard_key_age_seconds"] < 600
    assert found['zt_wireguard_rotation{step="staged"}'] == 0
    assert found["zt_wireguard_store_failing"] == 0


def test_a_private_key_is_nowhere_but_in_kms(joined: Site) -> None:
    a, _ = joined
    a.tell("rotate")
    newest = max((a.folder / "kms" / a.name).iterdir(), key=_number)
    book = book_of(json.loads(newest.read_text())["book"])
    private = [key.private.encode() for key in book.keys.values()]
    for key in private:
        assert key not in a.log.encode()
        assert all(
            key not in path.read_bytes() for path in (a.folder / "keys").iterdir() if path.is_file()
        )
        for name in ("cmdline", "environ"):
            for process in Path("/proc").glob("[0-9]*"):
                assert key not in _content(process / name)


def test_rotations_that_follow_each_other_at_once_end(joined: Site) -> None:
    a, b = joined
    keys = [(a.public, b.public)]
    with pinging(a.end, b.end) as pings:
        for turn in (a, a, b, a):
            assert turn.tell("rotate").split()[-2] == "done"
            keys.append((a.public, b.public))
    assert pings.sent == pings.received > 300
    assert [x[0] != y[0] for x, y in pairwise(keys)] == [True, True, False, True]


# --- What the stack says --------------------------------------------------------------------------


def test_a_stack_that_says_the_new_key_changes_nothing(joined: Site) -> None:
    a, b = joined
    for _ in range(2):
        b.tell("rotate")
        with pinging(a.end, b.end) as pings:
            a.write_peers(b)
            time.sleep(5)
        assert pings.sent == pings.received > 100


@pytest.mark.parametrize("lane", [1, 0])
def test_who_lost_its_keys_comes_to_the_lane_of_its_peers(lane: int, joined: Site) -> None:
    a, b = joined
    if a.status["lane"] != lane:
        a.tell("rotate")
    before = b.public
    b.kill()
    shutil.rmtree(b.folder / "kms" / b.name)
    b.start()
    assert b.public != before
    # Nobody believes it before both stacks say so.
    eventually(lambda: not a.is_up(b), 15)
    assert b.status["step"] == "joining"
    joined.join()
    eventually(partial(calm, joined, lane), 15)
    assert answers(a.end, b.end)
    b.tell("rotate")
    eventually(partial(calm, joined, 1 - lane), 15)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _block(one: Gateway) -> None:
    rules = (
        "table inet blocked {\nchain in {\ntype filter hook input priority 0\n"
        "iifname eth0 meta l4proto udp drop\n}\nchain out {\ntype filter hook output priority 0\n"
        "oifname eth0 meta l4proto udp drop\n}\n}"
    )
    run(*entered(one.namespace, ("nft", rules)))


def _unblock(one: Gateway) -> None:
    run(*entered(one.namespace, ("nft", "delete", "table", "inet", "blocked")))


def test_a_mesh_of_three_rotates_as_one(tmp_path: Path) -> None:
    with site(tmp_path, ("x", "y", "z")) as mesh:
        mesh.join()
        x, y, z = mesh
        before = [one.public for one in mesh]
        eventually(partial(calm, mesh, 0))
        with (
            pinging(y.end, z.end) as bystanders,
            pinging(z.end, x.end) as pings,
            ThreadPoolExecutor() as pool,
        ):
            # By then each has heard that the others are calm; they ask every two seconds.
            time.sleep(4)
            # Two of them, in the same moment.
            [*pool.map(lambda one: one.command("rotate"), (x, y))]
            eventually(partial(calm, mesh, 1), 60)
    assert pings.sent == pings.received > 100
    assert bystanders.sent == bystanders.received > 100
    after = [_last_public(one) for one in mesh]
    assert [old != new for old, new in zip(before, after, strict=True)] == [True, True, False]


def _last_public(one: Gateway) -> str:
    newest = max((one.folder / "kms" / one.name).iterdir(), key=_number)
    return str(json.loads(newest.read_text())["publicKey"])
