"""For tests, ours and those of plug-in authors: suites for connectors, a clock set by hand, a destination in memory.

class TestMySource(SourceSuite):
    def make_source(self):
        return MySource(MyConfig(name="warehouse", url=SecretStr("mydb://...")))
"""

# ruff: noqa: E402  # pytest must know of the suites before they are imported: then their assertions tell both sides

import pytest

pytest.register_assert_rewrite(
    "reverse_etl.testing.destinations", "reverse_etl.testing.linking", "reverse_etl.testing.sources"
)

from reverse_etl.testing.clock import FakeClock, Forgetful
from reverse_etl.testing.destinations import DestinationSuite
from reverse_etl.testing.linking import LinkerSuite
from reverse_etl.testing.memory import Applied, MemoryAccount, MemoryConfig, MemoryDestination, Written
from reverse_etl.testing.parents import MemoryParents
from reverse_etl.testing.sources import AWKWARD_TEXT, SourceSuite, refused

__all__ = [
    "AWKWARD_TEXT",
    "Applied",
    "DestinationSuite",
    "FakeClock",
    "Forgetful",
    "LinkerSuite",
    "MemoryAccount",
    "MemoryConfig",
    "MemoryDestination",
    "MemoryParents",
    "SourceSuite",
    "Written",
    "refused",
]
