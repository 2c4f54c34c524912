"""`python -m benchmarks.together PROJECT`: all syncs of a project at once in one process, as a daemon runs them."""

from __future__ import annotations

import sys

import anyio

from reverse_etl import Project
from reverse_etl.report import RunReport
from reverse_etl.stop import Stop


async def run(project: Project) -> list[RunReport]:
    reports: list[RunReport] = []

    async def one(name: str) -> None:
        reports.append(await project.carry_out(name, Stop()))

    async with anyio.create_task_group() as tasks:
        for name in project.syncs:
            tasks.start_soon(one, name)
    return reports


if __name__ == "__main__":
    told = anyio.run(run, Project.load(sys.argv[1]))
    print([(report.sync, report.status.value, report.requests, report.throttled) for report in told])
    sys.exit(max(report.exit_code for report in told))
