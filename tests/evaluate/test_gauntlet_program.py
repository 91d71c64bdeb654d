"""Programs that a model wrote: the tree is looked through, and what passes is run elsewhere against other outputs."""

import json
import os
from pathlib import Path

import pytest

from bloomery.evaluate.gauntlet.coding import INPUTS, OPERATIONS
from bloomery.evaluate.gauntlet.generate import TEMPLATES, generate
from bloomery.evaluate.gauntlet.program import allowed, computes

CODE = [item for item in generate(800) if item.category == "code"]


@pytest.mark.slow
def test_every_reference_is_allowed_and_a_sample_of_each_template_computes_what_was_asked() -> None:
    assert all(allowed(item.reference) for item in CODE)
    for template in (one.name for one in TEMPLATES.values() if one.category == "code"):
        several = [item for item in CODE if item.template == template]
        for item in several[:5]:
            assert item.accepts(item.reference), item.text
            assert item.accepts(f"\n{item.reference}\n\n")
        one, other = several[:2]
        assert not one.accepts(other.reference)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, known in OPERATIONS.items() for name in known])
def test_each_operation_is_written_as_it_is_done(kind: str, name: str) -> None:
    operation = OPERATIONS[kind][name]
    k = "e" if "'" in operation.writes else 3
    source = f"def f(x):\n    return {operation.writes.format(k=k)}"
    outputs = [operation.does(one, k) for one in INPUTS[kind]]
    assert computes(source, INPUTS[kind], json.dumps(outputs))
    assert not computes(source, INPUTS[kind], json.dumps([*outputs[:-1], "else"]))


REFUSED = (
    "", "42", "lambda x: x", "x + 1", "def g(x):\n    return x", "def f():\n    return 1",
    "def f(x, y=1):\n    return x", "import os\ndef f(x):\n    return x", "def f(x):\n    import os\n    return x",
    "async def f(x):\n    return x", "def f(x):\n    return open('a')", "def f(x):\n    return __import__('os')",
    "def f(x):\n    return x.__class__", "def f(x):\n    return (lambda: x)()",
    "def f(x):\n    while True:\n        pass", "def f(x):\n    return f(x)", "def f(x):\n    return ''.format(x)",
    "def f(x):\n    return f'{x}'", "def f(x):\n    global y\n    return x", "def f(x):\n    return _wanted[0]",
    "def f(_x):\n    return _x", "def f(x: open('a')):\n    return x", "@print\ndef f(x):\n    return x",
    "def f(x) -> open('a'):\n    return x", "def f(x):\n    return x.upper", "def f(x):\n    len = x\n    return len",
    "def f(len):\n    return len(1)", "def f(x):\n    yield x",
    "def f(x):\n    def g():\n        return 1\n    return g()", "def f(x):\n    return exit(0)", "class f: pass",
    "def f(x):\n    raise SystemExit", "def f(x):\n    return (yield)", "def f(x):\n    return [0].sort.__self__",
    "def f(x):\n    del x", "def f(x):\n    return x[0]()", "def f(x):\n    return (y := x)",
    "def f(*x):\n    return x", "def f(x):\n    return 1\nf(1)", "def f(x):\n    return b'a'", "def f(x): return x\0",
    "def f(x):\n    return \ud800", "def f(x):\n    return " + "-" * 990 + "1",
    "def f(x):\n    return " + "(" * 400 + "1" + ")" * 400, "def f(x):\n    return getattr(x, 'real')",
    "def f(x):\n    return type(x)", "def f(x):\n    return eval('1')", "def f(x):\n    with x:\n        return 1",
    "def f(x):\n    try:\n        return 1\n    finally:\n        pass",
)  # fmt: skip


@pytest.mark.parametrize("source", REFUSED)
def test_anything_but_a_small_function_is_refused_before_it_runs(source: str) -> None:
    assert not allowed(source)
    assert not computes(source, (1,), "[1]")


ALLOWED = [
    ("def f(x):\n    return [n * 2 for n in x if n > 1]", "[[4,6],[],[10]]"),
    ("def f(x):\n    'Adds.'\n    total = 0\n    for n in x:\n        total += n\n    return [total]", "[[6],[0],[5]]"),
    ("def f(x):\n    if not x:\n        return []\n    return sorted(x, reverse=True)[:2]", "[[3,2],[],[5]]"),
    ("def f(a):\n    return [sum(_ for _ in a), len(a)] if a else []", "[[6,3],[],[5,1]]"),
]


@pytest.mark.parametrize(("source", "wanted"), ALLOWED)
def test_ordinary_functions_are_allowed_and_run(source: str, wanted: str) -> None:
    given = ([1, 2, 3], [], [5])
    assert allowed(source)
    assert computes(source, given, wanted)
    assert not computes(source, given, wanted.replace("]]", ",0]]"))


def test_types_count_and_a_program_that_breaks_is_wrong() -> None:
    assert not computes("def f(x):\n    return x > 0", (1,), "[1]")
    assert computes("def f(x):\n    return x > 0", (1,), "[true]")
    assert not computes("def f(x):\n    return x / 1", (1,), "[1]")
    assert not computes("def f(x):\n    return x[5]", ([1],), "[1]")
    assert not computes("def f(x):\n    pass", (1,), "[1]")


@pytest.mark.slow
def test_a_program_without_end_or_measure_is_wrong_soon() -> None:
    endless = "def f(x):\n    for i in range(10 ** 12):\n        x = i\n    return x"
    huge = "def f(x):\n    return len('a' * 10 ** 10)"
    assert allowed(endless)
    assert allowed(huge)
    assert not computes(endless, (1,), "[1]")
    assert not computes(huge, (1,), f"[{10**10}]")


def test_it_runs_in_another_process_without_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sitecustomize that would leave a trace in any Python started with our environment."""
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w').close()")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]]))
    assert computes("def f(x):\n    return x", (1, 2), "[1, 2]")
    assert not (tmp_path / "trace").exists()
