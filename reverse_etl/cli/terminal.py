"""A terminal, through rich: colours, fitted tables, bars. Only imported when there is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from rich import progress as rich_progress
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from reverse_etl.cli.progress import Reports
from reverse_etl.cli.render import Commands
from reverse_etl.cli.screen import GAP, STYLES, Block, Line, Part, Span, Table, aligned, plain, width

if TYPE_CHECKING:
    from reverse_etl.report import RunReport


class RichScreen:
    """Colours follow NO_COLOR (https://no-color.org); text is never read as markup."""

    def __init__(self, stream: TextIO) -> None:
        self.console = Console(file=stream, highlight=False, markup=False, emoji=False)

    def show(self, *blocks: Block) -> None:
        for block in blocks:
            if isinstance(block, Line):
                self.console.print(_text(block.parts), soft_wrap=True)
            elif not block.head:
                self.console.print(_table(block, []))
            elif widths := _widths(block, self.console.width):
                self.console.print(_table(block, widths))
            else:
                for text in _unbroken(block):
                    self.console.print(text, soft_wrap=True)


class Bars(Reports):
    """Reports, with a live bar for the run under way; the bar goes when its report is printed."""

    def __init__(self, screen: RichScreen, commands: Commands) -> None:
        super().__init__(screen, commands)
        self._bars = rich_progress.Progress(
            rich_progress.SpinnerColumn(),
            rich_progress.TextColumn("{task.description}", markup=False, style="bold"),
            rich_progress.TextColumn("{task.fields[stage]}", markup=False),
            rich_progress.BarColumn(bar_width=28),
            rich_progress.TaskProgressColumn(),
            _Rate(),
            rich_progress.TimeRemainingColumn(compact=True),
            rich_progress.TextColumn("{task.fields[calls]}", markup=False, style="dim"),
            console=screen.console,
            transient=True,
        )
        self._tasks: dict[str, rich_progress.TaskID] = {}
        self._totals: dict[str, int] = {}

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def stage(self, sync: str, stage: str) -> None:
        super().stage(sync, stage)
        self._bars.update(self._task(sync), stage=stage)

    def progress(self, sync: str, done: int, total: int, requests: int) -> None:
        task = self._task(sync)
        if self._totals.get(sync) != total:
            self._totals[sync] = total
            self._bars.reset(task, total=total)  # rate and time left count from here, not from the reading
        self._bars.update(task, completed=done, calls=f"{requests:,} calls")

    def finished(self, report: RunReport) -> None:
        self._bars.stop()  # leaves nothing behind; the next run starts it again
        task = self._tasks.pop(report.sync, None)
        if task is not None:
            self._bars.remove_task(task)
        super().finished(report)

    def drawn(self) -> list[str]:
        """The bars as they stand, as lines of text."""
        console = Console(width=160, no_color=True, highlight=False)
        with console.capture() as captured:
            console.print(self._bars.get_renderable())
        return captured.get().splitlines()

    def _task(self, sync: str) -> rich_progress.TaskID:
        if sync not in self._tasks:
            self._bars.start()
            self._tasks[sync] = self._bars.add_task(sync, total=None, stage="starting", calls="")
        return self._tasks[sync]


class _Rate(rich_progress.ProgressColumn):
    def render(self, task: rich_progress.Task) -> Text:
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "")


def _text(parts: Iterable[Part]) -> Text:
    text = Text()
    for part in parts:
        text.append(plain(part), STYLES[part.style] if isinstance(part, Span) else "")
    return text


def _unbroken(table: Table) -> Iterator[Text]:
    """A table that the terminal is too narrow for: one line a row, broken by the terminal, so that it can be copied."""
    for position, (cells, row) in enumerate(zip(aligned(table), [table.head, *table.rows], strict=True)):
        text = Text(" " * table.indent, style="" if position else "dim")
        for cell, part in zip(cells, row, strict=True):
            text.append(cell, STYLES[part.style] if isinstance(part, Span) else "")
            text.append(GAP)
        text.rstrip()
        yield text


def _widths(table: Table, room: int) -> list[int]:
    """How wide each column is to be so that no word of it, no name, id or time, is torn apart; empty if none can.

    Our own reckoning, as rich shrinks the widest column first, whatever it holds.
    """
    columns = range(width(table))
    cells = [[plain(row[position]) for row in [table.head, *table.rows]] for position in columns]
    least = [max((cell_len(word) for cell in column for word in cell.split()), default=0) for column in cells]
    widths = [max(map(cell_len, column)) for column in cells]
    for _ in range(table.indent + sum(widths) + len(GAP) * len(columns) - room):
        loosest = max(columns, key=lambda position: widths[position] - least[position])
        if widths[loosest] == least[loosest]:
            return []
        widths[loosest] -= 1
    return widths


def _table(table: Table, widths: Sequence[int]) -> Padding:
    drawn = RichTable(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), show_header=bool(table.head))
    for position in range(width(table)):
        drawn.add_column(
            table.head[position] if table.head else "",
            justify="right" if position in table.right else "left",
            header_style="dim",
            overflow="fold",
            width=widths[position] if widths else None,
        )
    for row in table.rows:
        drawn.add_row(*(_text([cell]) for cell in row))
    return Padding(drawn, (0, 0, 0, table.indent), expand=False)
