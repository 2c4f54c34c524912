"""Dagster assets (extra `dagster`): each sync of a project is an asset, checked for rows that did not arrive.

from reverse_etl.orchestrators.dagster import sync_assets
defs = Definitions(assets=sync_assets("/etc/reverse-etl", deps={"workspaces_to_hubspot": ["dim_users"]}))
"""

# Annotations are evaluated here: Dagster looks at those of an asset's function.
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    Failure,
    MaterializeResult,
    asset,
)

from reverse_etl.config.schedule import After
from reverse_etl.config.sync import SyncConfig
from reverse_etl.orchestrators.conclusion import Conclusion, conclusion, line, open_rows
from reverse_etl.project import Project
from reverse_etl.report import RunReport, RunStatus

CHECK = "all_rows_arrived"


def sync_assets(
    project_dir: str | Path,
    *,
    syncs: Sequence[str] = (),
    deps: Mapping[str, Iterable[AssetKey | str]] | None = None,
    group_name: str = "reverse_etl",
) -> list[AssetsDefinition]:
    """One asset for each of these syncs, by default every enabled one, with the key [destination, sync].

    `deps` names the assets that a sync's query reads; the parents of its `after` are added. The asset check
    `all_rows_arrived` fails, as a warning, while rows stand rejected, invalid or in doubt. A run that failed raises
    Failure, with retries only where time may help, as it may while another process runs the sync.

    Raises ConfigError when the files can't be used, or a name in `syncs` or `deps` is no sync.
    """
    project = Project.load(project_dir, only=syncs or None)
    chosen = [project.named(name) for name in syncs] or [sync for sync in project.syncs.values() if sync.enabled]
    upstream = {project.named(name).name: tuple(keys) for name, keys in (deps or {}).items()}
    return [_asset(project, sync, upstream.get(sync.name, ()), group_name) for sync in chosen]


def key_of(sync: SyncConfig) -> AssetKey:
    """Dagster's names have no hyphens."""
    return AssetKey([_name(sync.destination), _name(sync.name)])


def _asset(project: Project, sync: SyncConfig, upstream: Sequence[AssetKey | str], group_name: str) -> AssetsDefinition:
    parents = sync.schedule.syncs if isinstance(sync.schedule, After) else ()
    key = key_of(sync)

    @asset(
        key=key,
        deps=[*upstream, *(key_of(project.syncs[parent]) for parent in parents if parent in project.syncs)],
        description=sync.description or f"{sync.object} at {sync.destination}",
        group_name=group_name,
        kinds={"reverse_etl", _name(sync.destination)},
        check_specs=[AssetCheckSpec(CHECK, asset=key, description="No row is rejected, invalid or in doubt")],
    )
    def materialize(context: AssetExecutionContext) -> Iterator[MaterializeResult[Any]]:
        # Read anew: the definitions may be hours old, and a run uses the files as they are.
        result = Project.load(project.root, only=(sync.name,)).sync(sync.name)
        (report,) = result.runs
        found = conclusion(result)
        if found not in (Conclusion.DONE, Conclusion.OPEN_ROWS):
            raise Failure(line(report), metadata=_metadata(report), allow_retries=found is not Conclusion.GIVE_UP)
        context.log.info(line(report))
        yield MaterializeResult(asset_key=key, metadata=_metadata(report), check_results=[_checked(report)])

    return materialize


def _checked(report: RunReport) -> AssetCheckResult:
    return AssetCheckResult(
        passed=report.status is RunStatus.SUCCEEDED,
        check_name=CHECK,
        severity=AssetCheckSeverity.WARN,
        description=line(report),
        metadata=open_rows(report),
    )


def _metadata(report: RunReport) -> dict[str, Any]:
    return {
        "run_id": report.run_id,
        "status": report.status.value,
        **{f"rows/{name}": count for name, count in vars(report.rows).items()},
        **{f"delivered/{name}": count for name, count in vars(report.delivered).items()},
        "requests": report.requests,
    }


def _name(word: str) -> str:
    return word.replace("-", "_")
