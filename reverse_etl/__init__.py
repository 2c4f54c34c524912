"""Reverse ETL: warehouse SQL in, only the changed rows out.

from reverse_etl import Project
result = Project.load("path").sync("workspaces_to_hubspot", dry_run=True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reverse_etl.project import Project
    from reverse_etl.report import SyncResult, SyncStatus

__all__ = ["Project", "SyncResult", "SyncStatus"]


def __getattr__(name: str) -> object:
    """Public names come when they are asked for: the command line must start fast."""
    if name in __all__:
        from reverse_etl import project, report  # noqa: PLC0415

        found: object = getattr(project if name == "Project" else report, name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
