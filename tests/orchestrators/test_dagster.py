"""The assets in a real Dagster."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from dagster import AssetKey, Definitions, ExecuteInProcessResult, Failure, asset, materialize

from reverse_etl.errors import ConfigError
from reverse_etl.orchestrators.dagster import sync_assets
from tests.orchestrators.conftest import Folder

PEOPLE = AssetKey(["hubspot", "people"])


def run(folder: Folder) -> ExecuteInProcessResult:
    return materialize(sync_assets(folder.root))


def facts(result: ExecuteInProcessResult, key: AssetKey = PEOPLE) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("__".join(key.path))
    return {name: value.value for name, value in event.metadata.items()}


def failed(folder: Folder) -> Failure:
    """What the asset raises for Dagster and its retry policy."""
    with pytest.raises(Failure) as raised:
        materialize(sync_assets(folder.root))
    return raised.value


def test_a_sync_is_an_asset_with_its_counts(folder: Folder) -> None:
    result = run(folder)
    assert result.success
    told = facts(result)
    assert (told["rows/read"], told["delivered/created"], told["status"]) == (2, 2, "succeeded")


def test_the_check_passes_when_every_row_arrived(folder: Folder) -> None:
    (check,) = run(folder).get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("all_rows_arrived", True)


def test_the_check_warns_of_rows_that_stay_open_and_the_asset_is_materialized(folder: Folder) -> None:
    folder.people(("ada@example.com", "Ada"), ("not an address", "Bob"))
    result = run(folder)
    (check,) = result.get_asset_check_evaluations()
    assert (result.success, check.passed, check.severity.value) == (True, False, "WARN")
    assert check.metadata["invalid"].value == 1


def test_a_failed_run_fails_the_asset_with_the_runs_own_words(folder: Folder) -> None:
    (folder.root / "warehouse.duckdb").unlink()
    failure = failed(folder)
    assert "source_missing_file" in str(failure.description)
    assert failure.allow_retries


def test_a_refused_credential_is_not_tried_again(folder: Folder) -> None:
    folder.connect(access_token="another-token")
    failure = failed(folder)
    assert "destination_credential" in str(failure.description)
    assert not failure.allow_retries


def test_a_sync_that_is_run_elsewhere_fails_and_may_be_tried_again(
    folder: Folder, held: Callable[[str], AbstractContextManager[None]]
) -> None:
    with held("people"):
        failure = failed(folder)
    assert "busy: people is held by another run" in str(failure.description)
    assert failure.allow_retries


def test_the_parents_of_a_sync_and_the_tables_it_reads_are_upstream(folder: Folder) -> None:
    folder.sync("more-people", schedule={"after": "people"})
    first, second = sync_assets(folder.root, syncs=["people", "more-people"], deps={"people": ["dim_people"]})
    assert first.asset_deps[PEOPLE] == {AssetKey("dim_people")}
    assert second.asset_deps[AssetKey(["hubspot", "more_people"])] == {PEOPLE}


def test_the_assets_load_into_definitions_beside_others(folder: Folder) -> None:
    @asset
    def dim_people() -> None: ...

    definitions = Definitions(assets=[dim_people, *sync_assets(folder.root, deps={"people": ["dim_people"]})])
    assert definitions.resolve_asset_graph().get(PEOPLE).parent_keys == {AssetKey("dim_people")}


def test_an_unknown_sync_is_told_with_those_that_are_there(folder: Folder) -> None:
    with pytest.raises(ConfigError, match="there is no such sync; the project has people"):
        sync_assets(folder.root, deps={"peple": ["dim_people"]})
