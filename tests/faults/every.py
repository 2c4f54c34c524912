"""Every module with families of faults; importing this one fills the list."""

from __future__ import annotations

from tests.faults import answers, crowds, disks, kills, servers, sources, waves, wires

__all__ = ["answers", "crowds", "disks", "kills", "servers", "sources", "waves", "wires"]
