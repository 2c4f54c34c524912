"""A sandbox per test, and clients that are logged in."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from reverse_etl.sandbox.server import Sandbox, running


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running(rate=None, search_lag=0) as started:
        yield started


@pytest.fixture
def hubspot(sandbox: Sandbox) -> Iterator[httpx.Client]:
    headers = {"Authorization": "Bearer sandbox-token"}
    with httpx.Client(base_url=sandbox.url, trust_env=False, headers=headers) as client:
        yield client


@pytest.fixture
def salesforce(sandbox: Sandbox) -> Iterator[httpx.Client]:
    headers = {"Authorization": "Bearer sandbox-access-token"}
    base = sandbox.url + "/services/data/v62.0"
    with httpx.Client(base_url=base, trust_env=False, headers=headers) as client:
        yield client
