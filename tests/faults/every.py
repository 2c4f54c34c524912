"""Every module with families of faults; importing this one fills the list."""

from __future__ import annotations

from tests.faults import (
    answers,
    bulk,
    cluster,
    crowds,
    daemons,
    disks,
    kills,
    landing,
    power,
    salesforce,
    servers,
    sources,
    tokens,
    waves,
    wires,
)

__all__ = [
    "answers",
    "bulk",
    "cluster",
    "crowds",
    "daemons",
    "disks",
    "kills",
    "landing",
    "power",
    "salesforce",
    "servers",
    "sources",
    "tokens",
    "waves",
    "wires",
]
