"""Shapes written on public tensor functions are checked in tests, by beartype; other functions are left alone.

A whole number is a number, as in PEP 484. A check costs more than many of the functions do, and training calls them ten
thousand times with the same shapes, so that every test checks the first calls of each.
"""

import functools
import inspect
import re
from collections import Counter
from typing import Any

import jaxtyping
import torch
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

CALLS = 50
"""Of one function in one test."""

_check: Any = beartype(conf=BeartypeConf(is_pep484_tower=True))
_decorate: Any = jaxtyping.jaxtyped
_SHAPE = re.compile(r"\w+\[(torch\.)?Tensor, ")
_calls: Counter[Any] = Counter()


def next_test() -> None:
    _calls.clear()


def names_a_shape(function: Any) -> bool:
    return any(_SHAPE.search(str(annotation)) for annotation in getattr(function, "__annotations__", {}).values())


def checked(function: Any) -> Any:
    """`function`, checked if its signature names a shape and holds nothing that cannot be checked (a protocol)."""
    if not names_a_shape(function):
        return function
    try:
        return _check(function)
    except BeartypeDecorHintException:
        return function


def jaxtyped(function: Any = None, **more: Any) -> Any:
    """What the import hook puts on every function and class: the first calls of those that name a shape are checked."""
    if function is None:
        return functools.partial(jaxtyped, **more)
    if not inspect.isfunction(function):
        return _decorate(function, **more)
    if not names_a_shape(function):
        return function
    with_check = _decorate(function, **more)

    @functools.wraps(function)
    def first_calls(*arguments: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling() or _calls[function] >= CALLS:
            return function(*arguments, **named)
        _calls[function] += 1
        return with_check(*arguments, **named)

    return first_calls


jaxtyping.jaxtyped = jaxtyped
