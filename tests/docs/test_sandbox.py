"""The sandbox's page names every fault and every path of its own, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from reverse_etl.sandbox.faults import KINDS, Fault
from reverse_etl.sandbox.server import running

PAGE = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()
OWN = re.findall(r"^\| `(GET|POST) (/__\w+)` \|", PAGE, re.MULTILINE)


def test_every_fault_is_explained_and_no_other() -> None:
    faults = PAGE.partition("## Faults")[2].partition("## What")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", faults, re.MULTILINE)) == KINDS


def test_a_faults_settings_are_those_it_takes() -> None:
    faults = PAGE.partition("## Faults")[2].partition("| kind |")[0]
    named = set(re.findall(r"`(\w+)`", faults)) - {"null"}
    assert named <= set(Fault.__dataclass_fields__)


@pytest.mark.parametrize(("method", "path"), OWN)
def test_every_path_of_its_own_is_served(method: str, path: str) -> None:
    with running(rate=None) as sandbox:
        answer = httpx.request(method, sandbox.url + path, trust_env=False)
        assert answer.status_code != 404


def test_no_path_of_its_own_is_left_out() -> None:
    code = (Path(__file__).parents[2] / "reverse_etl" / "sandbox" / "admin.py").read_text()
    assert {path for _, path in OWN} == set(re.findall(r"/__\w+", code))
