"""A connector that is registered but not proved fails here."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from reverse_etl import registry
from reverse_etl.testing import DestinationSuite, SourceSuite
from tests.conformance import test_destinations, test_sources


def suites(module: ModuleType, kind: type) -> list[type]:
    """The suites of a module that pytest runs."""
    return [
        member
        for name, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, kind) and name.startswith("Test")
    ]


def makes(suite: type, method: str, connector: type) -> bool:
    """Whether a suite's own way to make a connector names this class, or one derived from it."""
    names = getattr(suite, method).__code__.co_names
    members = vars(inspect.getmodule(suite))
    return any(isinstance(members.get(name), type) and issubclass(members[name], connector) for name in names)


@pytest.mark.parametrize("name", registry.names(registry.DESTINATIONS))
def test_every_destination_runs_the_suite(name: str) -> None:
    connector = registry.destination(name)
    found = suites(test_destinations, DestinationSuite)
    assert any(makes(suite, "make_destination", connector) for suite in found), f"{name} has no suite"


@pytest.mark.parametrize("name", registry.names(registry.SOURCES))
def test_every_source_runs_the_suite(name: str) -> None:
    connector = registry.source(name)
    assert any(makes(suite, "make_source", connector) for suite in suites(test_sources, SourceSuite)), (
        f"{name} has no suite"
    )
