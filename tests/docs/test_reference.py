"""The generated pages are what the code says today."""

from __future__ import annotations

import pytest

from docs import generate


@pytest.mark.parametrize("name", ["commands.md", "files.md"])
def test_the_reference_is_what_the_code_says(name: str) -> None:
    fresh = generate.pages()[generate.FOLDER / name]
    assert (generate.FOLDER / name).read_text() == fresh, "stale: run `make reference`"


def test_every_key_and_every_option_of_the_reference_is_explained() -> None:
    silent = [
        f"{file.name}: {line}"
        for file, text in generate.pages().items()
        for line in text.splitlines()
        if line.startswith("| `") and line.rstrip().endswith("|  |")
    ]
    assert silent == []
