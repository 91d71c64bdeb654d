"""The forms that benchmarks use, made of training material alone: right by their own checkers, balanced, repeatable."""

import ast
import json
from collections import Counter
from functools import cache

import pytest

from bloomery.data.examples import Example
from bloomery.data.formats import LETTERS, function_body, multiple_choice
from bloomery.errors import DataError
from bloomery.evaluate.gauntlet.coding import INPUTS
from bloomery.evaluate.gauntlet.generate import generate, item_named
from bloomery.evaluate.gauntlet.item import Item
from bloomery.evaluate.gauntlet.program import computes

CAPITALS = [
    ("Lisbon", "Portugal"), ("Madrid", "Spain"), ("Paris", "France"), ("Rome", "Italy"), ("Oslo", "Norway"),
]  # fmt: skip
ASKED = [
    ("capital", Example(f"Q: What is the capital of {land}?\nA:", city, "factual", {"item": land}))
    for city, land in CAPITALS
]


def parts_of(example: Example) -> tuple[str, dict[str, str]]:
    """The question and {letter: option} of a lettered question, read as a benchmark's reader would."""
    question, *options, answer = example.prompt.split("\n")
    assert answer == "Answer:"
    assert [line[:3] for line in options] == [f"{letter}. " for letter in LETTERS]
    return question, {line[0]: line[3:] for line in options}


def test_a_lettered_question_holds_the_answer_once_behind_its_letter() -> None:
    made = multiple_choice(ASKED, 20)
    assert len(made) == 20
    for one in made:
        question, options = parts_of(one)
        land = one.origin["of"]["item"]
        assert question == f"What is the capital of {land}?"
        assert options[one.response] == next(city for city, other in CAPITALS if other == land)
        assert len(set(options.values())) == 4
        assert set(options.values()) <= {city for city, _ in CAPITALS}
        assert one.category == "factual"
    assert set(Counter(one.response for one in made).values()) == {5}  # right letters take turns
    assert multiple_choice(ASKED, 20) == made
    assert len({one.prompt for one in made}) > 15  # other wrong answers, or another order, in later rounds


def test_wrong_answers_are_of_the_same_kind_and_never_right_too() -> None:
    others = [("yes_no", Example(f"Q: {n}?\nA:", "yes" if n % 2 else "no", "reasoning", {"n": n})) for n in range(9)]
    made = multiple_choice([*ASKED, *others], 5, lambda example, text: text == "Rome")
    assert {one.category for one in made} == {"factual"}  # of yes and no there are not four
    assert not any("Rome" in parts_of(one)[1].values() for one in made if parts_of(one)[0].endswith("Spain?"))
    with pytest.raises(DataError, match="multiple_choice"):
        multiple_choice(others, 1)
    with pytest.raises(DataError, match=r"40 can be made|expected: 500"):
        multiple_choice(ASKED, 500)


@cache
def code() -> tuple[Item, ...]:
    return tuple(item for item in generate(400) if item.category == "code")


def examples() -> list[Example]:
    return [Example(item.prompt, item.reference, "code", {"item": item.name}) for item in code()]


def test_a_function_body_completes_its_signature_to_a_right_program() -> None:
    """By the gauntlet's own checker, which runs it; the name that is used in later rounds is put back for it."""
    made = function_body(examples(), len(code()) + 10)
    assert len({one.prompt for one in made}) == len(made)
    for one in [*made[:4], *made[-2:]]:
        tree = ast.parse(one.text)
        (function,) = tree.body
        assert isinstance(function, ast.FunctionDef)
        item = item_named(one.origin["of"]["item"])
        assert ast.get_docstring(function) == item.task.question.replace("f(", f"{function.name}(")
        program = one.text.replace(f"def {function.name}(", "def f(")
        kind = json.loads(item.key.partition(" ")[2])[0]
        assert computes(
            program.replace(f'    """{ast.get_docstring(function)}"""\n', ""), INPUTS[kind], item.task.outputs
        )
    assert made[0].prompt.startswith("def f(x):\n")
    assert made[-1].prompt.startswith("def solve(x):\n")
    assert made[0].response.startswith("    ")


def test_a_body_keeps_its_own_indentation() -> None:
    (made,) = function_body([Example("Q: Write f.\nA:", "def f(x):\n\treturn x", "code", {"n": 1})], 1)
    ast.parse(made.text)
    assert made.response == "\treturn x"


def test_what_is_no_single_function_is_not_used() -> None:
    answers = [
        "x = 1", "def f(x): return x", "def f(:", "@cached\ndef f(x):\n    return x", "",
        "def f(x):\n    return 1\nf(2)", f"def f(x):\n    return {'-' * 20_000}1",
    ]  # fmt: skip
    with pytest.raises(DataError, match="function_body"):
        function_body([Example("Q: Write f.\nA:", answer, "code", {"n": 1}) for answer in answers], 1)
    itself = Example("Q: Write f.\nA:", "def f(x):\n    return f(x - 1) if x else 0", "code", {"n": 1})
    with pytest.raises(DataError, match="1 can be made"):
        function_body([itself], 2)  # under another name it would call what is not there
