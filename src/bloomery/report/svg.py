"""A matplotlib figure -> an <svg> that can stand in a page: no fixed colours, no fixed size, no network, no dates.

Colours are placeholders that become CSS variables, so that one drawing serves light, dark and print. Text stays text.
The same figure gives the same bytes: the salt of the ids is fixed, and ids that nothing refers to are dropped.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from bloomery.report.markup import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, SURFACE = "#010101", "#020202", "#030303", "#040404"
CANDIDATE, CONTROL, OTHER_A, OTHER_B, OTHER_C = "#050505", "#060606", "#070707", "#080808", "#090909"
PASS, FAIL, UNSURE = "#0a0a0a", "#0b0b0b", "#0c0c0c"
SERIES = (OTHER_A, OTHER_B, OTHER_C)
VARIABLES = {
    INK: "ink", MUTED: "muted", LINE: "line", SURFACE: "surface", CANDIDATE: "candidate", CONTROL: "control",
    OTHER_A: "other-a", OTHER_B: "other-b", OTHER_C: "other-c", PASS: "pass", FAIL: "fail", UNSURE: "unsure",
}  # fmt: skip
WIDTH_INCHES = 4.7
"""Every figure: half a page on a desk, the whole width of a phone, with text of 9 to 12 pixels in both."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bloomery",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.solid_capstyle": "round",
    "hatch.linewidth": 0.6,
    "hatch.color": LINE,
}


@contextmanager
def canvas(height_inches: float, rows: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure in the report's style and its axes, one below the other."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        axes = [figure.add_subplot(rows, 1, row + 1) for row in range(rows)]
        yield figure, axes


def drawn(figure: Figure, name: str, description: str) -> Markup:
    """name: unique in the page, of letters, digits and dashes. description: the alternative text, any text."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    view_box = re.search(r'viewBox="([^"]+)"', text)
    assert view_box is not None, "matplotlib writes a viewBox"
    body = text[text.index(">") + 1 : text.rindex("</svg>")]
    body = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style[ >].*?</style>", "", body, flags=re.DOTALL)
    body = _ids(body, name)
    body = re.sub(r"<[^>]*>", lambda found: _restyled(found.group()), body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    label = escape(description, quote=True)
    return Markup(
        f'<svg role="img" aria-label="{label}" viewBox="{view_box.group(1)}" xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )


def _restyled(element: str) -> str:
    """One start tag with CSS variables for colours, the page's own font and two decimals; text is never touched."""
    element = re.sub(
        r"font: ([\d.]+px)[^\";]*|font-size: ([\d.]+px); font-family: [^;\"]*", r"font-size: \1\2", element
    )
    element = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", element)
    for colour, variable in VARIABLES.items():
        element = element.replace(colour, f"var(--{variable})")
    return re.sub(r"(\d\.\d{2})\d+", r"\1", element).replace("xlink:href", "href")


def _ids(body: str, name: str) -> str:
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', body))  # all made by matplotlib: m..., p... and digits

    def keep(found: re.Match[str]) -> str:
        return f' id="{name}-{found.group(1)}"' if found.group(1) in used else ""

    body = re.sub(r' id="([^"]*)"', keep, body)
    return re.sub(r'(href="|url\()#', rf"\g<1>#{name}-", body)
