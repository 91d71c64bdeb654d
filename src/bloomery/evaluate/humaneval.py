"""Function completion in HumanEval's format: a prompt (signature and docstring), a completion by a model, a test.

A file of JSON lines with task_id, prompt, entry_point and test, as human-eval publishes it (Chen et al. 2021,
arXiv:2107.03374); other fields are not read. Completions are greedy and cut at the stop words of the paper, which
lm-evaluation-harness uses too. pass@1 with one greedy completion is the share of problems that are solved.

The test runs beside the prompt, so that helpers which the prompt defines are the data set's, not the model's.
Refuses a file without these fields. What is executed is executed in evaluate/sandbox.py only.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.errors import DataError
from bloomery.evaluate.sandbox import UNSOUND, Outcome, run

STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
_FIELDS = ("task_id", "prompt", "entry_point", "test")


@dataclass(frozen=True, slots=True)
class Problem:
    name: str
    prompt: str
    entry: str
    test: str


def load_problems(path: Path, limit: int | None = None) -> tuple[Problem, ...]:
    """The first `limit` problems of a file. Raises DataError where it is missing, empty or of another format."""
    problems: list[Problem] = []
    for number, row in enumerate(read_lines(path, _FIELDS), 1):
        if not all(isinstance(row[key], str) for key in _FIELDS):
            raise DataError(f"{path}:{number}", "a field that is no text", "text under " + ", ".join(_FIELDS))
        problems.append(Problem(*(row[key] for key in _FIELDS)))
    return tuple(problems[:limit])


def read_lines(path: Path, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, each with at least these fields. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # JSON may hold other line ends
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), f"cannot be read ({error})", "a file of JSON lines") from None
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}", f"no JSON ({error})", "one object a line") from None
        if not isinstance(row, dict) or not all(field in row for field in fields):
            raise DataError(f"{path}:{number}", "no object with the fields wanted", ", ".join(fields))
        rows.append(row)
    if not rows:
        raise DataError(str(path), "no lines", "at least one object with " + ", ".join(fields))
    return rows


def cut(completion: str, stop: tuple[str, ...] = STOP) -> str:
    """`completion` up to the first of the stop words."""
    return completion[: min((place for word in stop if (place := completion.find(word)) >= 0), default=None)]


def solved(problem: Problem, completion: str, *, timeout: float = 10.0) -> Outcome:
    """Whether prompt and completion together pass the problem's test, in the sandbox.

    Raises DataError where it is the problem that is wrong: a prompt or test that is no Python.
    """
    program = problem.prompt + cut(completion)
    outcome = run(program, problem.test, entry=problem.entry, setup=_alone(problem.prompt), timeout=timeout)
    if outcome.why.startswith(UNSOUND):
        raise DataError(problem.name, outcome.why, "a prompt and a test that are Python, and define `check`")
    return outcome


def _alone(prompt: str) -> str:
    """The prompt as Python by itself: a docstring makes a body, a bare signature needs one."""
    try:
        ast.parse(prompt)
    except SyntaxError:
        return f"{prompt}\n    pass\n"
    return prompt
