"""The demo, whole, over real HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from reverse_etl.demo import ground, warehouse
from reverse_etl.demo.story import tell
from reverse_etl.errors import ConfigError
from reverse_etl.project import Project
from reverse_etl.report import RunReport


class Notebook:
    """Writes down what is told."""

    def __init__(self) -> None:
        self.chapters: list[tuple[str, list[RunReport]]] = []
        self.lines: list[str] = []

    def chapter(self, title: str, *sentences: str) -> None:
        self.chapters.append((title, []))
        self.lines.extend([title, *sentences])

    def run(self, report: RunReport) -> None:
        self.chapters[-1][1].append(report)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> None:
        self.lines.extend(" ".join(row) for row in rows)

    def say(self, text: str, style: str = "") -> None:
        self.lines.append(text)

    def runs(self, title: str) -> dict[str, RunReport]:
        (reports,) = [reports for name, reports in self.chapters if title in name]
        return {report.sync: report for report in reports}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Notebook:
    # What a caller has in the environment must not reach the demo: it would send to a real account.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBSPOT_BASE_URL", "https://api.hubapi.com")
        patch.setenv("HUBSPOT_ACCESS_TOKEN", "a-real-token")
        patch.setenv("REVERSE_ETL_STATE_URL", "postgresql+psycopg://nowhere.example/state")
        patch.setenv("REVERSE_ETL_PROJECT", "/nowhere")
        notebook = Notebook()
        assert tell(notebook, tmp_path_factory.mktemp("demo") / "project") == 0
    return notebook


def test_the_dry_run_says_what_the_first_run_then_does(told: Notebook) -> None:
    planned, done = told.runs("dry run"), told.runs("first run")
    assert {name: report.rows for name, report in planned.items()} == {
        name: report.rows for name, report in done.items()
    }
    assert done["workspaces_to_hubspot"].rows.added == warehouse.USERS
    assert done["workspaces_to_salesforce_leads"].rows.added == warehouse.USERS
    assert done["companies_to_hubspot"].rows.added == warehouse.COMPANIES


def test_a_day_later_only_what_changed_goes_out(told: Notebook) -> None:
    later = told.runs("day later")
    contacts = later["workspaces_to_hubspot"].rows
    assert contacts.added == warehouse.NEWCOMERS
    assert 0 < contacts.changed < 100
    assert contacts.read < 200, "the cursor left out the thousands without new events"
    companies = later["companies_to_hubspot"].rows
    assert (companies.added, companies.changed, companies.removed) == (warehouse.FOUNDED, 4, warehouse.LEAVING)


def test_with_nothing_new_no_call_is_made(told: Notebook) -> None:
    assert [report.requests for report in told.runs("nothing new").values()] == [0, 0, 0]


def test_ada_s_story_is_told_with_the_values_of_both_crms(told: Notebook) -> None:
    assert "HubSpot contact workspaces_total 0 → 1 the drip e-mail that asks for one can stop" in told.lines
    assert any(line.startswith("Salesforce lead Lead_Score__c") for line in told.lines)


def test_the_demo_needs_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ConfigError, match="new or empty folder"):
        tell(Notebook(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_demo_refuses_a_destination_that_is_not_this_machine(tmp_path: Path) -> None:
    ground.copy_project(tmp_path / "project")
    elsewhere = {**ground.environment("http://127.0.0.1:1"), "HUBSPOT_BASE_URL": "https://api.hubapi.com"}
    with pytest.raises(ConfigError, match="isn't on this machine"):
        ground.refuse_strangers(Project.load(tmp_path / "project", env=elsewhere))
