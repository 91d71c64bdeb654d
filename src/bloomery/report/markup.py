"""HTML from values. Text is escaped unless it is already Markup: there is no other way to put it in a page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID = frozenset({"meta", "br", "hr", "col"})


class Markup(str):
    """Text that is HTML already, made by this file or by `svg.drawn`."""

    __slots__ = ()


def tag(name: str, /, *children: str | Iterable[str] | None, **attributes: str | bool | None) -> Markup:
    """`tag("td", "a < b", class_="n")` -> <td class="n">a &lt; b</td>. `_` in names becomes `-`; None leaves out."""
    opened = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        opened += f" {key}" if value is True else f' {key}="{escape(value, quote=True)}"'
    if name in VOID:
        return Markup(f"<{opened}>")
    return Markup(f"<{opened}>{join(*children)}</{name}>")


def join(*children: str | Iterable[str] | None) -> Markup:
    """Children one after the other; strings are escaped, iterables flattened, None left out."""
    out: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            out.append(child)
        elif isinstance(child, str):
            out.append(escape(child, quote=False))
        else:
            out.append(join(*child))
    return Markup("".join(out))


def table(
    caption: str,
    header: Iterable[str],
    rows: Iterable[Iterable[str]],
    *,
    classes: str = "",
    row_classes: Iterable[str] = (),
) -> Markup:
    """A table that scrolls sideways in its own box on narrow screens. The first column names the row."""
    kinds = iter(row_classes)
    body = []
    for row in rows:
        first, *rest = row
        body.append(
            tag("tr", tag("th", first, scope="row"), [tag("td", cell) for cell in rest], class_=next(kinds, "") or None)
        )
    head = tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in header]))
    inner = tag("table", tag("caption", caption), head, tag("tbody", body), class_=classes or None)
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """A list of terms and what they are."""
    return tag("dl", [tag("div", tag("dt", term), tag("dd", value)) for term, value in pairs])
