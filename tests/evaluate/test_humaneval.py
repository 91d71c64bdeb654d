"""HumanEval: canonical solutions pass, all of them; stubs do not, none of them."""

import json
from pathlib import Path

import pytest

from bloomery.errors import DataError
from bloomery.evaluate.humaneval import Problem, cut, load_problems, solved
from support.real import ABSENT, REAL

FILE = REAL / "humaneval"
FILE = FILE / "HumanEval_first20.jsonl"
HERE = pytest.mark.skipif(not FILE.is_file(), reason=ABSENT)


@pytest.mark.slow
@HERE
def test_canonical_solutions_pass_and_stubs_do_not() -> None:
    problems = load_problems(FILE)
    canonical = [json.loads(line)["canonical_solution"] for line in FILE.read_text().splitlines()]
    assert len(problems) == 20
    failed = {problem.name: outcome.why for problem, solution in zip(problems, canonical, strict=True)
              if not (outcome := solved(problem, solution)).passed}  # fmt: skip
    assert failed == {}
    for stub in ("    pass\n", "    raise SystemExit(0)\n"):
        assert [problem.name for problem in problems if solved(problem, stub).passed] == []


def test_what_comes_after_the_function_is_cut() -> None:
    assert cut("    return 1\n\ndef g():\n    pass\n") == "    return 1\n"
    assert cut("    if x:\n        return 1\nprint(f(1))") == "    if x:\n        return 1"
    assert cut("    return 1\n# a comment") == "    return 1"
    assert cut("    # a comment\n    return 1") == "    # a comment\n    return 1"


def test_a_completion_is_judged_with_its_prompt() -> None:
    test = "def check(candidate):\n    assert candidate(2, 3) == 5 and helper() == 1\n"
    problem = Problem("add/0", 'def helper():\n    return 1\n\ndef add(a, b):\n    """Sum."""\n', "add", test)
    assert solved(problem, "    return a + b\n\nimport sys; sys.exit(0)").passed is False
    assert solved(problem, "    return a + b\n\ndef more():\n    ((((").passed
    assert not solved(problem, "    return a - b\n").passed


def test_a_bare_signature_will_do_and_a_wrong_problem_is_no_failure_of_the_model() -> None:
    good = Problem("double", "def double(x):\n", "double", "def check(candidate):\n    assert candidate(2) == 4\n")
    assert solved(good, "    return 2 * x\n").passed
    for problem in (
        Problem("a", "def (", "f", "def check(candidate):\n    pass\n"),
        Problem("b", "def f(x):\n", "f", "def check(candidate)\n"),
        Problem("c", "def f(x):\n", "f", "def other(candidate):\n    pass\n"),
    ):
        with pytest.raises(DataError, match="does not load"):
            solved(problem, "    return 1\n")
    forged = "    raise type('the check itself does not load', (Exception,), {})\n"
    assert not solved(good, forged).passed


NO_TEXT = '{"task_id": 1, "prompt": "", "entry_point": "", "test": ""}'


@pytest.mark.parametrize("text", ["", "{}", "[1]", "nonsense", NO_TEXT])
def test_another_format_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "file.jsonl").write_text(text)
    with pytest.raises(DataError):
        load_problems(tmp_path / "file.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        load_problems(tmp_path / "none.jsonl")
