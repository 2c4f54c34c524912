"""Blocks as a pipe would get them, without the alignment."""

from __future__ import annotations

from collections.abc import Iterable

from reverse_etl.cli.screen import Block, Line


def lines(blocks: Iterable[Block]) -> list[str]:
    said: list[str] = []
    for block in blocks:
        if isinstance(block, Line):
            said.append(str(block).strip())
        else:
            rows = [*([block.head] if block.head else []), *block.rows]
            said.extend(" | ".join(str(Line((cell,))) for cell in row) for row in rows)
    return said
