"""Shapes written on public tensor functions are checked in tests, by beartype; other functions are left alone.

A whole number is a number, as in PEP 484.
"""

import re
from typing import Any

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

_check: Any = beartype(conf=BeartypeConf(is_pep484_tower=True))
_SHAPE = re.compile(r"\w+\[(torch\.)?Tensor, ")


def checked(function: Any) -> Any:
    """`function`, checked if its signature names a shape and holds nothing that cannot be checked (a protocol)."""
    if not any(_SHAPE.search(str(annotation)) for annotation in getattr(function, "__annotations__", {}).values()):
        return function
    try:
        return _check(function)
    except BeartypeDecorHintException:
        return function
