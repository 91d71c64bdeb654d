"""Quantities as people write them, as exact numbers: `300M`, `1M tok`, `2.5 GiB`, `250 ms`, `2 USD`, `35%`, `1/1000`.

Every parser takes what YAML gave (text or a number) and returns an int where the value is whole, else the nearest
float; arithmetic in between is rational. A unit of another kind, a number that is not finite, a share above 1 and a
negative size are refused with what was expected. The annotated types (`Tokens`, `Bytes`, ...) are for pydantic models.

Prefixes of counts are decimal (k M B T, also G P E); bytes are decimal with `MB` and binary with `MiB`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_DIGITS: Final = r"[+-]?(?:\d[\d_]{0,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,2})?"
_NUMBER: Final = rf"(?:[+-]?\d{{1,18}}/\d{{1,18}}|{_DIGITS})"
_QUANTITY = re.compile(rf"\s*(?P<number>{_NUMBER})\s*(?P<unit>[^\d\s./].*?)?\s*", re.ASCII)

COUNTS: Final[Mapping[str, int]] = {
    "": 1, "k": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
}  # fmt: skip
BYTES: Final[Mapping[str, int]] = {
    "": 1, "B": 1, "bytes": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
SECONDS: Final[Mapping[str, Fraction]] = {
    "": Fraction(1), "us": Fraction(1, 10**6), "ms": Fraction(1, 1000), "s": Fraction(1),
    "min": Fraction(60), "h": Fraction(3600), "d": Fraction(86400),
}  # fmt: skip
MONEY: Final[Mapping[str, int]] = {"": 1, "USD": 1}
SHARES: Final[Mapping[str, Fraction]] = {"": Fraction(1), "%": Fraction(1, 100)}
TOKENS: Final[Mapping[str, int]] = {
    **COUNTS, **{f"{prefix} tok".strip(): factor for prefix, factor in COUNTS.items()}
}  # fmt: skip
QUANTITIES: Final[Mapping[str, Fraction]] = {
    unit: Fraction(factor)
    for table in (SHARES, COUNTS, BYTES, SECONDS, MONEY, TOKENS)
    for unit, factor in table.items()
    if unit != "B"  # billions or bytes: in a bare quantity nobody can tell
}


class UnitError(ValueError):
    """A quantity that cannot be read. `expected` says what could."""

    def __init__(self, found: str, expected: str) -> None:
        self.found, self.expected = found, expected
        super().__init__(f"{found}; expected {expected}")


def parse_count(value: object) -> int:
    """`300M`, `12k`, `1.6B`, 4096: a whole number, not negative."""
    return _whole(value, COUNTS, "a count such as 4096, 12k, 300M or 1.6B")


def parse_tokens(value: object) -> int:
    """`1M tok`, `64k tok`, or a bare count, which `fraction` leaves alone."""
    return _whole(value, TOKENS, "a number of tokens such as 300k tok or 1.6M tok")


def parse_bytes(value: object) -> int:
    """`4 GiB`, `600 MiB`, `2.5 GB`, or a bare number of bytes; rounded to whole bytes."""
    return round(_not_negative(value, BYTES, "a size such as 600 MiB, 4 GiB or 2.5 GB"))


def parse_seconds(value: object) -> int | float:
    """`250 ms`, `8 min`, `6 h`, `2 d`, or a bare number of seconds."""
    return _simplest(_not_negative(value, SECONDS, "a duration such as 250 ms, 30 s, 8 min, 6 h or 2 d"))


def parse_money(value: object) -> int | float:
    """`2 USD`, or a bare number of US dollars."""
    return _simplest(_not_negative(value, MONEY, "an amount such as 2 USD"))


def parse_share(value: object) -> int | float:
    """`35%`, 0.35 or `7/20`: between 0 and 1."""
    expected = "a share between 0 and 1, such as 35% or 0.35"
    share = _not_negative(value, SHARES, expected)
    if share > 1:
        raise UnitError(f"{_shown(value)} is more than the whole", expected)
    return _simplest(share)


def parse_fraction(value: object) -> Fraction:
    """`1/1000`, `10%` or 1: what multiplies every quantity written in `tok`; more than 0."""
    fraction = _not_negative(value, SHARES, "a positive number such as 1/1000 or 0.1")
    if fraction == 0:
        raise UnitError("0 would leave no tokens", "a positive number such as 1/1000 or 0.1")
    return fraction


def parse_quantity(value: object) -> int | float:
    """The value of a condition: a plain number, or one with any unit of this file."""
    expected = "a number, with or without a unit: 1.02, 35%, -1%, 12M, 600 MiB, 250 ms, 2 USD"
    return _simplest(_read(value, QUANTITIES, expected))


_TOKENS_WRITTEN: Final = re.compile(rf"\s*{_NUMBER}\s*[{''.join(COUNTS)}]?\s*tok\s*", re.ASCII)


def scale_tokens(text: str, fraction: Fraction) -> str:
    """`text` times `fraction` where it is a quantity written in `tok`, else `text` as it is. At least 1 tok stays."""
    if not _TOKENS_WRITTEN.fullmatch(text):
        return text
    tokens = _read(text, TOKENS, "")
    return f"{max(1, round(tokens * fraction)) if tokens else 0} tok"


def unit_written(text: str) -> str:
    """The kind of unit in a quantity: `bytes`, `seconds`, `money`, `share`, `tokens`, `count`, or nothing."""
    match = _QUANTITY.fullmatch(text)
    unit = re.sub(r"\s+", " ", match["unit"] or "") if match else ""
    kinds = {"share": SHARES, "count": COUNTS, "bytes": BYTES, "seconds": SECONDS, "money": MONEY, "tokens": TOKENS}
    return next((kind for kind, table in kinds.items() if unit and unit in table), "")


def format_count(value: int) -> str:
    """The shortest exact form: 300000000 -> `300M`."""
    return _format(value, {"": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}, "")


def format_bytes(value: int) -> str:
    """The shortest exact form: 4294967296 -> `4 GiB`."""
    return _format(value, {unit: BYTES[unit] for unit in ("B", "KiB", "MiB", "GiB", "TiB")}, " ")


def format_seconds(value: int | float) -> str:
    """The largest unit that leaves a whole number, else seconds: 480 -> `8 min`."""
    if value != int(value):
        return f"{value!r} s"
    return _format(int(value), {"s": 1, "min": 60, "h": 3600, "d": 86400}, " ")


def _format(value: int, units: Mapping[str, int], space: str) -> str:
    unit = max((unit for unit in units if value % units[unit] == 0 and value), key=units.__getitem__, default="")
    unit = unit or next(iter(units))
    return f"{value // units[unit]}{space if unit else ''}{unit}"


def _read(value: object, units: Mapping[str, int] | Mapping[str, Fraction], expected: str) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Fraction):
        raise UnitError(f"found {_shown(value)}", expected)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UnitError(f"{value} is not a finite number", expected)
        return Fraction(repr(value))
    if not isinstance(value, str):
        return Fraction(value)
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise UnitError(f"'{value}' is not a quantity", expected)
    number = match["number"].replace("_", "")
    if re.search(r"/0+$", number):
        raise UnitError(f"'{value}' divides by zero", expected)
    unit = re.sub(r"\s+", " ", match["unit"] or "")
    unit = re.sub(r"^([kMBGTPE])tok$", r"\1 tok", unit)
    if unit not in units:
        raise UnitError(f"'{value}' has the unit '{unit}'", expected + _closest_unit(unit, units))
    return Fraction(number) * units[unit]


def _closest_unit(unit: str, units: Mapping[str, Any]) -> str:
    for known in units:
        if known and known.lower() == unit.lower():
            return f" (did you mean '{known}'?)"
    return ""


def _not_negative(value: object, units: Mapping[str, int] | Mapping[str, Fraction], expected: str) -> Fraction:
    number = _read(value, units, expected)
    if number < 0:
        raise UnitError(f"{_shown(value)} is negative", expected)
    return number


def _whole(value: object, units: Mapping[str, int], expected: str) -> int:
    number = _not_negative(value, units, expected)
    if number.denominator != 1:
        raise UnitError(f"{_shown(value)} is not a whole number", expected)
    return int(number)


def _simplest(number: Fraction) -> int | float:
    return int(number) if number.denominator == 1 else float(number)


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return f"'{value}'" if isinstance(value, str) else str(value)


def _validator(parse: Callable[[object], Any]) -> BeforeValidator:
    def validate(value: object) -> Any:
        try:
            return parse(value)
        except UnitError as error:
            raise PydanticCustomError("unit", "{found}", {"found": error.found, "expected": error.expected}) from None

    return BeforeValidator(validate)


def _schema(units: Mapping[str, Any], what: str) -> WithJsonSchema:
    names = "|".join(re.escape(unit).replace(r"\ ", " ?") for unit in sorted(units, key=len, reverse=True) if unit)
    pattern = rf"^\s*{_NUMBER}\s*({names})?\s*$"
    return WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": pattern}], "description": what})


Count = Annotated[int, _validator(parse_count), _schema(COUNTS, "a count: 4096, 12k, 300M")]
Tokens = Annotated[int, _validator(parse_tokens), _schema(TOKENS, "a number of tokens: 300k tok")]
Bytes = Annotated[int, _validator(parse_bytes), _schema(BYTES, "a size: 600 MiB, 4 GiB")]
Seconds = Annotated[float, _validator(parse_seconds), _schema(SECONDS, "a duration: 250 ms, 8 min, 6 h")]
Money = Annotated[float, _validator(parse_money), _schema(MONEY, "an amount: 2 USD")]
Share = Annotated[float, _validator(parse_share), _schema(SHARES, "a share from 0 to 1: 35%, 0.35")]
Ratio = Annotated[float, _validator(lambda value: float(parse_fraction(value))), _schema(SHARES, "a factor: 1/1000")]
Quantity = Annotated[int | float, _validator(parse_quantity), _schema(QUANTITIES, "a number, with or without a unit")]
