from html.parser import HTMLParser

import pytest

from bloomery.report import svg
from bloomery.report.markup import Markup, tag


def drawing(name="one"):
    with svg.canvas(1.0) as (figure, (axes,)):
        axes.plot([0, 1], [3.14159, 2.71828], color=svg.CANDIDATE)
        axes.set_title('#010101 3.14159 <b> & "q" $x$')
        return svg.drawn(figure, name, 'a "quoted" <label>')


def test_text_is_never_restyled():
    class Texts(HTMLParser):
        found = ""

        def handle_data(self, data):
            self.found += data

    reader = Texts()
    reader.feed(drawing())
    assert '#010101 3.14159 <b> & "q" $x$' in reader.found


def test_colours_are_variables_and_ids_belong_to_the_drawing():
    text = drawing()
    assert "stroke: var(--candidate)" in text
    assert "stroke: #" not in text
    assert drawing() == text
    assert drawing("two") != text
    assert "http" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (tag("p", "a < b", class_="x"), '<p class="x">a &lt; b</p>'),
        (tag("p", Markup("<b>"), None, ["&"]), "<p><b>&amp;</p>"),
        (tag("meta", name_='"', content=None), '<meta name="&quot;">'),
        (tag("details", open=True), "<details open></details>"),
    ],
)
def test_tags_escape(made, expected):
    assert made == expected
