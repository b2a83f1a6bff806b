"""Drawings that can be read: nothing lies on anything else."""

from itertools import combinations, pairwise

from hypothesis import given, settings

from tests.strategies import TODAY, policies
from zt.effective import effective
from zt.graph import graph
from zt.load import load_policy
from zt.model import Policy
from zt.render.route import Box, Drawing, Point, drawing


def drawn(policy: Policy) -> Drawing:
    return drawing(graph(effective(policy, TODAY)))


def overlap(one: Box, two: Box) -> bool:
    return (
        one.left < two.right
        and two.left < one.right
        and one.top < two.bottom
        and two.top < one.bottom
    )


def along(start: Point, end: Point) -> Box:
    """A segment as a box without width."""
    left, top = min(start[0], end[0]), min(start[1], end[1])
    return Box(left, top, abs(end[0] - start[0]), abs(end[1] - start[1]))


def contains(outer: Box, inner: Box) -> bool:
    return (
        outer.left <= inner.left
        and outer.top <= inner.top
        and inner.right <= outer.right
        and inner.bottom <= outer.bottom
    )


@settings(max_examples=40)
@given(policies())
def test_no_two_nodes_and_no_two_namespaces_overlap(policy: Policy) -> None:
    found = drawn(policy)

    boxes = [box for _, box in found.nodes]
    assert not any(overlap(*pair) for pair in combinations(boxes, 2))
    for kinds in (("namespace", "outside"), ("cluster",)):
        places = [box for kind, _, box in found.places if kind in kinds]
        assert not any(overlap(*pair) for pair in combinations(places, 2))


@settings(max_examples=40)
@given(policies())
def test_every_node_is_in_the_box_of_its_namespace_and_all_on_the_sheet(policy: Policy) -> None:
    found = drawn(policy)

    sheet = Box(0, 0, found.width, found.height)
    places = [box for kind, _, box in found.places if kind in ("namespace", "outside")]
    for _, box in found.nodes:
        assert sum(contains(place, box) for place in places) == 1
    assert all(contains(sheet, box) for _, _, box in found.places)
    for line in found.lines:
        for path in line.paths:
            assert all(0 <= x <= found.width and 0 <= y <= found.height for x, y in path)


@settings(max_examples=40)
@given(policies())
def test_no_line_runs_under_a_node(policy: Policy) -> None:
    found = drawn(policy)

    boxes = [box for _, box in found.nodes]
    for line in found.lines:
        for path in line.paths:
            for segment in pairwise(path):
                assert not any(overlap(along(*segment), box) for box in boxes)


@settings(max_examples=40)
@given(policies())
def test_lines_run_level_from_their_source_to_their_destination(policy: Policy) -> None:
    found = drawn(policy)

    boxes = {node.id: box for node, box in found.nodes}
    for line in found.lines:
        for edge, path in zip(line.edges, line.paths, strict=True):
            assert path[0][0] == boxes[edge.destination].left
            assert path[-1][0] == boxes[edge.source].right
            for end, box in ((path[0], boxes[edge.destination]), (path[-1], boxes[edge.source])):
                assert box.top < end[1] < box.bottom
            assert all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(path))


@settings(max_examples=40)
@given(policies())
def test_two_arrows_share_no_part_of_their_way(policy: Policy) -> None:
    found = drawn(policy)

    segments = [
        (number, along(*segment))
        for number, line in enumerate(found.lines)
        for segment in {step for path in line.paths for step in pairwise(path)}
    ]
    for (one, first), (two, second) in combinations(segments, 2):
        if one != two:
            assert not runs_along(first, second), (found.lines[one].bus, found.lines[two].bus)


def runs_along(one: Box, two: Box) -> bool:
    """Whether two level segments lie on each other for a while."""
    if one.height == two.height == 0 and one.top == two.top:
        return min(one.right, two.right) - max(one.left, two.left) > 0
    if one.width == two.width == 0 and one.left == two.left:
        return min(one.bottom, two.bottom) - max(one.top, two.top) > 0
    return False


def test_the_real_policy_fits_on_a_screen() -> None:
    found = drawn(load_policy("policies"))

    assert found.width < 2000
    assert found.height < 1300
