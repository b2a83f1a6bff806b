"""The scalars: any text is a value, or a sentence that says what is wrong with it."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zt import values
from zt.values import Scalar, duration, parse_duration, parse_text

SCALARS = {
    name: marker
    for name, hint in vars(values).items()
    for marker in get_args(hint)[1:]
    if isinstance(marker, Scalar)
} | {"label key": values.LABEL_KEY, "label value": values.LABEL_VALUE}
NEARLY = st.from_regex(r"[-+0-9a-z_.:/*]{0,30}", fullmatch=True)


@pytest.mark.parametrize("name", SCALARS)
@given(st.text(max_size=40) | NEARLY)
def test_any_text_is_a_value_or_a_value_error_of_ours(name: str, text: str) -> None:
    message = problem(SCALARS[name], text)
    assert "\n" not in message
    for python in ("invalid literal", "does not appear to be", "isoformat", "argument"):
        assert python not in message


def problem(scalar: Scalar, text: str) -> str:
    try:
        scalar.parse(text)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", SCALARS)
def test_no_message_repeats_a_long_text(name: str) -> None:
    assert 0 < len(problem(SCALARS[name], "\x00" + "x" * 100_000)) < 500


@given(st.integers(1, 10**11))
def test_a_duration_is_read_as_it_is_written(seconds: int) -> None:
    if seconds < 10**9 or seconds % 60 == 0:
        assert parse_duration(duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1s"), (90, "90s"), (900, "15m"), (3600, "1h"), (86400, "1d"), (365 * 86400, "1y")],
)
def test_a_duration_is_written_in_the_largest_unit_that_fits(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_a_description_may_have_lines_and_nothing_that_cannot_be_shown() -> None:
    assert parse_text("one\n\ttwo") == "one\n\ttwo"
    for character in "\x00\x07\x1b\x7f\x85\u2028\ufeff":
        with pytest.raises(ValueError, match=f"U\\+{ord(character):04X}: take it out"):
            parse_text(f"a{character}b")
