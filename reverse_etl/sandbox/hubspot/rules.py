"""Rules that an account's admin sets for values and for new records; writes obey them from version 2026-09 on.

Which rule binds how is documented for the user interface; the sandbox judges the kinds that a client can meet by
itself: lengths, numbers, patterns. Others are kept and shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

FROM_VERSION = "2026-09"


def binds(version: str) -> bool:
    """Whether writes to paths of that version obey rules; those of the numbered versions never do."""
    return not version.startswith("v") and version >= FROM_VERSION


@dataclass
class Rule:
    type: str
    arguments: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        return {"ruleType": self.type, "ruleArguments": self.arguments, "shouldApplyNormalization": False}

    def admits(self, value: str) -> bool:
        """Whether the value obeys it; one whose arguments can't be read binds nobody."""
        test = TESTS.get(self.type)
        try:
            return test is None or test(value, self.arguments[0] if self.arguments else "")
        except (ValueError, re.error):
            return True


TESTS: dict[str, Callable[[str, str], bool]] = {
    "MIN_LENGTH": lambda value, bound: len(value) >= int(bound),
    "MAX_LENGTH": lambda value, bound: len(value) <= int(bound),
    "MIN_NUMBER": lambda value, bound: float(value) >= float(bound),
    "MAX_NUMBER": lambda value, bound: float(value) <= float(bound),
    "REGEX": lambda value, pattern: re.fullmatch(pattern, value) is not None,
}
