"""What an unquoted word of YAML means here: text, a whole number, a number, true, false or nothing.

Only what every YAML version reads alike is taken as anything but text. Words that versions disagree about (`no` is
false in YAML 1.1 and text in 1.2, `012` is ten or twelve, `1_000` and `10:30` are numbers in 1.1) are errors, as the
author can't see which reading applies. Dates stay text.
https://yaml.org/type/ (1.1) and https://yaml.org/spec/1.2.2/#103-core-schema, both read 2026-11.
"""

from __future__ import annotations

import re
from decimal import Decimal
from math import isfinite

Scalar = str | int | float | bool | None

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_SOMETIMES_BOOLEAN = re.compile(r"(?:yes|no|on|off)", re.IGNORECASE)
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")
_SOMETIMES_NUMBER = re.compile(
    r"[-+]?0[0-9_]+"  # octal, or decimal with a leading zero
    r"|[-+]?[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?"  # 1_000
    r"|[-+]?0(?:b[01_]+|x[0-9a-fA-F_]+|o[0-7]+)"
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"  # sixty is the base: 10:30 is 630
    r"|[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+"  # 1e3 without a point or a sign
    r"|[-+]?[0-9]+\.[0-9]*"  # 012.5
)
_NOT_A_NUMBER = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))")
_MOST_DIGITS = 40


def plain(text: str) -> Scalar:
    """The value of an unquoted word. ValueError says why a word must be quoted or written otherwise."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _SOMETIMES_BOOLEAN.fullmatch(text):
        raise ValueError(
            f"some YAML readers take `{text}` for a truth value: write true or false, or quote it for text"
        )
    if _INTEGER.fullmatch(text) and len(text) <= _MOST_DIGITS and abs(int(text)) < 2**63:
        return int(text)
    if _NUMBER.fullmatch(text) and len(text) <= _MOST_DIGITS:
        return _exact(text)
    if _INTEGER.fullmatch(text) or _NUMBER.fullmatch(text) or _NOT_A_NUMBER.fullmatch(text):
        raise ValueError("this can't be kept as a number: quote it for text")
    if _SOMETIMES_NUMBER.fullmatch(text):
        raise ValueError("YAML readers disagree on this number: write plain digits, or quote it for text")
    return text


def _exact(text: str) -> float:
    number = float(text)
    if not isfinite(number) or Decimal(repr(number)) != Decimal(text):
        raise ValueError("a number can't keep all these digits: quote it for text")
    return number
