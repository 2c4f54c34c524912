"""An Airflow operator (extra `airflow`, Airflow 3): one task runs one or several syncs of a project.

from reverse_etl.orchestrators.airflow import SyncOperator
SyncOperator(task_id="workspaces", syncs="workspaces_to_hubspot", project_dir="/etc/reverse-etl")
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

if TYPE_CHECKING:
    from airflow.sdk import Context

    from reverse_etl.report import SyncResult


class SyncOperator(BaseOperator):
    """Run syncs, by default every enabled one, parents first; the task's XCom is what `sync --json` prints.

    The task fails for good where only a person can help (a definition, a credential, a guard, the state), and in a way
    that Airflow tries again where time may (warehouse, network, an interruption). A sync that is run elsewhere just now
    skips the task. Rows that stay rejected, invalid or in doubt fail it, without a retry, unless `allow_open_rows`:
    they are kept, and the next run offers them again.

    `project_dir` is a folder of the machine on which the task runs, with its state: on several machines, the state
    belongs into PostgreSQL. Two tasks never run one sync at a time.
    """

    template_fields: Sequence[str] = ("syncs", "project_dir", "tag", "approve")
    ui_color = "#dbe9f6"

    def __init__(
        self,
        *,
        project_dir: str,
        syncs: str | Sequence[str] = (),
        tag: str | None = None,
        full: bool = False,
        dry_run: bool = False,
        approve: str | None = None,
        allow_open_rows: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.project_dir = project_dir
        self.syncs = syncs
        self.tag = tag
        self.full = full
        self.dry_run = dry_run
        self.approve = approve
        self.allow_open_rows = allow_open_rows

    def execute(self, context: Context) -> dict[str, Any]:
        """Called by Airflow. Raises what makes Airflow fail, retry or skip the task, with the run's own words."""
        from reverse_etl import Project  # noqa: PLC0415  # a DAG file is read every few seconds: nothing heavy with it
        from reverse_etl.errors import ConfigError  # noqa: PLC0415

        names = (self.syncs,) if isinstance(self.syncs, str) else tuple(self.syncs)
        try:
            project = Project.load(self.project_dir, only=names or None)
            result = project.sync(
                *names, dry_run=self.dry_run, full=self.full, tag=self.tag or None, approve=self.approve or None
            )
        except ConfigError as failure:
            raise AirflowFailException(str(failure)) from failure
        return self._concluded(result)

    def _concluded(self, result: SyncResult) -> dict[str, Any]:
        from reverse_etl.orchestrators.conclusion import Conclusion, conclusion, told  # noqa: PLC0415

        found, text = conclusion(result), told(result)
        if found is Conclusion.TRY_AGAIN:
            raise AirflowException(text)
        if found is Conclusion.BUSY:
            raise AirflowSkipException(text)
        if found is Conclusion.GIVE_UP or (found is Conclusion.OPEN_ROWS and not self.allow_open_rows):
            raise AirflowFailException(text)
        self.log.info("%s", text)
        return dict(result.to_json())
