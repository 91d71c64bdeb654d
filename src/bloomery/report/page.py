"""Run -> one HTML file that holds everything: no network, no script, light and dark, screen, phone and paper.

The verdict comes first and failed predictions before passed ones. Whatever text a plan, a sample or an event brings is
escaped (see markup); drawings are inline SVG (see svg). The same events give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from bloomery.engine.artifact import write_atomically
from bloomery.report import summary
from bloomery.report.markdown import markdown
from bloomery.report.markup import Markup, join, tag
from bloomery.report.sections import banner, choices, claims, evidence, passage, record, verdict
from bloomery.report.view import RunView

Section = Callable[[RunView], Markup | None]
SECTIONS: tuple[tuple[str, str, Section], ...] = (
    ("predictions", "Predictions", verdict.predictions),
    ("claims", "Claims", claims.claims),
    ("promise", "What was promised", verdict.promise),
    ("gates", "Gates and attempts", evidence.gates),
    ("parties", "Arms, sweeps and controls", choices.parties),
    ("passage", "Cycles, optional and skipped stages", passage.passed_over),
    ("curves", "Learning curves", evidence.learning),
    ("results", "Measured results", evidence.results),
    ("exploratory", "Exploratory evaluations", record.exploratory),
    ("size", "Size and compute", evidence.size),
    ("budget", "Budget", evidence.budget),
    ("samples", "Samples", record.samples),
    ("environment", "Environment", record.environment),
    ("receipts", "Receipts", lambda view: join(record.receipts(view), record.log(view))),
    ("reproduce", "Do it again", record.reproduce),
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Even a mistake here could not load anything or run anything."""


def page(view: RunView) -> str:
    """The whole page as text."""
    made = [(name, title, section(view)) for name, title, section in SECTIONS]
    shown = [(name, title, content) for name, title, content in made if content]
    title = f"{summary.headline(view)}: {view.header.run or view.folder.name}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup(files("bloomery.report").joinpath("report.css").read_text(encoding="utf-8"))),
    )
    body = tag(
        "body",
        banner.banner(view),
        tag(
            "nav",
            tag("ul", [tag("li", tag("a", title, href=f"#{name}")) for name, title, _ in shown]),
            aria_label="Contents",
        ),
        tag("main", [tag("section", tag("h2", title), content, id=name) for name, title, content in shown]),
        tag(
            "footer",
            f"Written by Bloomery {view.header.provenance.get('bloomery', '')} from events.jsonl, the record of this "
            "run. Nothing here was typed by hand.",
        ),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def write_report(run_folder: Path) -> Path:
    """Write report.html and report.md into the run folder, each whole or not at all; returns the page's path.

    Raises ArtifactError where the folder holds no run or cannot be written.
    """
    view = RunView.read(run_folder)
    write_atomically(run_folder / "report.md", markdown(view).encode())
    target = run_folder / "report.html"
    write_atomically(target, page(view).encode())
    return target
