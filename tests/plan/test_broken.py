"""Every broken plan gives exactly one clear error, with its line; the plan that they are made from gives none."""

import sys
from pathlib import Path

import pytest

from bloomery.errors import BloomeryError, Problems
from bloomery.plan.check import check
from bloomery.plan.load import load_text

sys.path.insert(0, str(Path(__file__).parent))
from broken import BROKEN, GOOD, PLACES  # pyright: ignore[reportMissingImports]
from fake_catalogue import FakeCatalogue  # pyright: ignore[reportMissingImports]


def problems_of(text: str) -> tuple[BloomeryError, ...]:
    try:
        return check(load_text(text, Path("plan.yaml")), FakeCatalogue()).problems
    except Problems as error:
        return error.problems


def test_there_are_at_least_thirty() -> None:
    assert len(BROKEN) >= 30
    assert len({name for name, _, _ in BROKEN}) == len(BROKEN)


def test_the_good_plan_has_no_findings_at_all() -> None:
    report = check(load_text(GOOD, Path("plan.yaml")), FakeCatalogue())
    assert report.problems == report.warnings == report.not_offered == ()
    assert report.walks_bound == 2


@pytest.mark.parametrize(("name", "text", "said"), BROKEN, ids=[name for name, _, _ in BROKEN])
def test_one_mistake_gives_one_error(name: str, text: str, said: str) -> None:
    problems = problems_of(text)
    assert len(problems) == 1, "\n".join(map(str, problems))
    shown = str(problems[0])
    assert said in shown
    assert shown.startswith(f"plan.yaml:{PLACES.get(name, '')}"), shown
    assert "pydantic" not in shown


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = (
        GOOD.replace("hypothesis:", "hypotesis:")
        .replace("wall: 8 min", "wall: 8 GiB")
        .replace("seeds: [0", "seeds: [a")
    )
    problems = problems_of(text)
    assert [problem.where.split(":")[1] for problem in problems] == ["4", "6", "7"]
