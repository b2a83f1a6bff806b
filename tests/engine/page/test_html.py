from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from engine.page.html import Html, element, number, together


class Read(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


# NUL and carriage returns are read as something else by HTML itself; neither leaves an attribute.
TEXT = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]))


@given(TEXT, TEXT)
def test_text_stays_text(content: str, attribute: str) -> None:
    found = Read(element("p", content, title=attribute))
    assert found.tags == [("p", [("title", attribute)])]
    assert found.text == content


def test_markup_stays_markup() -> None:
    inner = element("b", "<i>")
    assert element("p", inner, None, "&") == "<p><b>&lt;i&gt;</b>&amp;</p>"
    assert together([inner, "<"]) == "<b>&lt;i&gt;</b>&lt;"
    assert isinstance(inner, Html)


def test_attributes_are_named_as_in_html() -> None:
    made = element("input", class_="a", aria_label="b", x=1.0, y=2.25, hidden=True, title=None)
    assert made == '<input class="a" aria-label="b" x="1" y="2.2" hidden>'
    assert element("p", name="n", required=False) == '<p name="n"></p>'


@given(st.floats(-1e6, 1e6))
def test_coordinates_are_short_and_near(value: float) -> None:
    assert abs(float(number(value)) - value) <= 0.051
