"""The same examples in the forms that benchmarks use: lettered questions, and functions to be completed.

multiple_choice   the question, four lettered answers, `Answer:` -> ` A`, as MMLU is asked (Hendrycks et al. 2021): the
                  response and three other responses of the same kind of question. Right letters take turns.
function_body     `def f(x):` and the question as a docstring -> the body, as HumanEval is asked (Chen et al. 2021):
                  examples whose response is one Python function. In later rounds the function has another name.

What is made keeps its category and names what it was made from. All choices are hashes: the same examples give the
same ones under every Python. Refuses where there is nothing to make a format from, or not as much as was asked for.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator, Sequence

from bloomery.data.examples import Example
from bloomery.errors import DataError

LETTERS = "ABCD"
LONGEST_ANSWER = 24
"""Characters of a response that can stand behind a letter."""
ROUNDS = 8
"""How often one example is used at most, each time with other wrong answers, or another name."""
NAMES = ("", "solve", "compute", "apply", "convert", "work_out", "result_of", "transform")

Accepts = Callable[[Example, str], bool]
"""Whether a text would be a right response too."""


def multiple_choice(
    examples: Sequence[tuple[str, Example]], count: int, accepts: Accepts = lambda example, text: False
) -> list[Example]:
    """examples: (kind, example) pairs; wrong answers come from the same kind. Raises DataError for too few."""
    answers: dict[str, list[str]] = {}
    for kind, example in examples:
        response = example.response.strip()
        if len(response) <= LONGEST_ANSWER and "\n" not in response and response not in answers.setdefault(kind, []):
            answers[kind].append(response)
    made: list[Example] = []
    for turn in range(ROUNDS):
        for kind, example in _shuffled(examples, turn):
            if len(made) == count:
                return made
            if example.response.strip() not in answers.get(kind, ()):
                continue
            wrong = _wrong(example, answers[kind], turn, accepts)
            if len(wrong) == len(LETTERS) - 1:
                made.append(_lettered(example, wrong, len(made) % len(LETTERS)))
    return _enough(made, count, "multiple_choice", "responses of at most one short line, four of a kind")


def _wrong(example: Example, answers: Sequence[str], turn: int, accepts: Accepts) -> list[str]:
    found: list[str] = []
    right = _plain(example.response)
    for text in sorted(answers, key=lambda answer: _hash(turn, example.prompt, answer)):
        if _plain(text) != right and _plain(text) not in map(_plain, found) and not accepts(example, text):
            found.append(text)
        if len(found) == len(LETTERS) - 1:
            break
    return found


def _plain(text: str) -> str:
    return text.casefold().strip().strip(".")


def _lettered(example: Example, wrong: Sequence[str], right: int) -> Example:
    options = [*wrong[:right], example.response.strip(), *wrong[right:]]
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=True)]
    prompt = "\n".join([_question(example), *lines, "Answer:"])
    return Example(prompt, LETTERS[right], example.category, {"format": "multiple_choice", "of": dict(example.origin)})


def _question(example: Example) -> str:
    """Without the marks of question and answer."""
    return example.prompt.strip().removeprefix("Q:").removesuffix("A:").strip()


def function_body(examples: Sequence[Example], count: int) -> list[Example]:
    """Of the examples whose response is a function. Raises DataError for too few."""
    made: list[Example] = []
    for turn in range(ROUNDS):
        for example in examples:
            if len(made) == count:
                return made
            if (body := _completion(example, NAMES[turn])) is not None:
                made.append(body)
    return _enough(made, count, "function_body", "responses that are one Python function")


def _completion(example: Example, name: str) -> Example | None:
    try:
        statements = ast.parse(example.response).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last: its parser's stack
        return None
    question = _question(example)
    if len(statements) != 1 or not isinstance(function := statements[0], ast.FunctionDef) or '"' in question:
        return None
    first, lines = function.body[0], example.response.splitlines()
    if function.decorator_list or first.lineno == function.lineno or "\\" in question:
        return None
    if name and any(isinstance(node, ast.Name) and node.id == function.name for node in ast.walk(function)):
        return None  # it calls itself
    header = "\n".join(lines[: first.lineno - 1])
    if name:
        header = header.replace(f"def {function.name}(", f"def {name}(", 1)
        question = question.replace(f"{function.name}(", f"{name}(")
    indent = lines[first.lineno - 1][: first.col_offset]
    prompt = f'{header}\n{indent}"""{question}"""\n'
    body = "\n".join(lines[first.lineno - 1 :])
    return Example(prompt, body, example.category, {"format": "function_body", "of": dict(example.origin)})


def _shuffled(examples: Sequence[tuple[str, Example]], turn: int) -> Iterator[tuple[str, Example]]:
    yield from sorted(examples, key=lambda pair: _hash(turn, pair[0], pair[1].prompt))


def _hash(*of: object) -> bytes:
    return hashlib.sha256(repr(of).encode()).digest()


def _enough(made: list[Example], count: int, name: str, of: str) -> list[Example]:
    if len(made) < count:
        raise DataError(
            f"formats.{name}", f"{len(made)} can be made of the training examples", f"{count}", f"from {of}"
        )
    return made
