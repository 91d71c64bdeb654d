"""Functions that a model wrote: what they may hold, and whether they compute what was asked for.

First the syntax tree: one function `f` of one argument, made of the nodes, built-in functions and methods listed here;
no import, no attribute but those methods, no name that begins with an underscore, no while. Only what passes is run, in
the sandbox. Nothing is run in our process.

Refuses, as wrong, whatever does not parse, is too long, or does not end in time.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Sequence
from typing import Any

from bloomery.evaluate.sandbox import run

LONGEST = 1000
"""Characters."""
SECONDS = 5

_NODES = (
    ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign, ast.If, ast.For, ast.Pass, ast.Expr,
    ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call, ast.keyword, ast.Name, ast.Constant, ast.List,
    ast.Tuple, ast.Subscript, ast.Slice, ast.ListComp, ast.GeneratorExp, ast.comprehension, ast.Attribute,
    ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
_FUNCTIONS = frozenset({
    "abs", "all", "any", "bool", "divmod", "enumerate", "int", "len", "list", "max", "min", "range", "reversed",
    "sorted", "str", "sum", "tuple", "zip",
})  # fmt: skip
_METHODS = frozenset({
    "append", "capitalize", "count", "endswith", "extend", "find", "index", "insert", "isalpha", "isdigit", "islower",
    "isupper", "join", "lower", "lstrip", "pop", "remove", "replace", "reverse", "rstrip", "sort", "split",
    "startswith", "strip", "swapcase", "title", "upper",
})  # fmt: skip


def allowed(source: str) -> bool:
    """Whether the text is one function `f` of one argument, made of nothing but what is listed here."""
    if len(source) > LONGEST or "\0" in source:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model's escapes are not our user's warnings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    match tree.body:
        case [ast.FunctionDef(name="f", decorator_list=[], returns=None) as function]:
            pass
        case _:
            return False
    given = function.args
    if len(given.args) != 1 or given.posonlyargs or given.kwonlyargs or given.vararg or given.kwarg or given.defaults:
        return False
    called = {id(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
    inner = [node for node in ast.walk(function) if node is not function]
    return all(_harmless(node, called) for node in inner)


def _harmless(node: ast.AST, called: set[int]) -> bool:
    match node:
        case ast.FunctionDef():
            return False
        case ast.Attribute():
            return id(node) in called and node.attr in _METHODS
        case ast.Name():
            own = not _hidden(node.id) and not (isinstance(node.ctx, ast.Store) and node.id in _FUNCTIONS)
            return own and (id(node) not in called or node.id in _FUNCTIONS)
        case ast.Call():
            return isinstance(node.func, ast.Name | ast.Attribute)
        case ast.arg():
            return node.annotation is None and not _hidden(node.arg) and node.arg not in _FUNCTIONS
        case ast.Constant():
            return node.value is None or isinstance(node.value, str | int | float)
        case _:
            return isinstance(node, _NODES)


def _hidden(name: str) -> bool:
    """Names of the program around it, and of Python's own machinery."""
    return name.startswith("_") and name != "_"


def computes(source: str, inputs: Sequence[Any], outputs: str) -> bool:
    """Whether `f` gives these outputs (a JSON list) for these inputs; of the same types, so True is not 1."""
    source = source.strip()
    return allowed(source) and run(source, _check(inputs, outputs), entry="f", timeout=SECONDS).passed


def _check(inputs: Sequence[Any], outputs: str) -> str:
    return f"""
import json
def check(candidate):
    found = [candidate(one) for one in json.loads({json.dumps(list(inputs))!r})]
    assert json.dumps(found) == json.dumps(json.loads({outputs!r}))
"""
