"""HTML made of elements: what is put into one is text and gets escaped, unless it is an element itself."""

from __future__ import annotations

from html import escape


class Html(str):
    """Markup that was made here, and nowhere else."""

    __slots__ = ()


def element(tag: str, /, *children: object, **attributes: object) -> Html:
    """An element; a trailing underscore of an attribute's name is left away (`class_`), one of None too."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(text(child) for child in children)
    return Html(f"<{tag}{shown}>{inner}</{tag}>")


def text(child: object) -> str:
    if isinstance(child, Html):
        return child
    return "" if child is None else escape(str(child))


def void(tag: str, /, **attributes: object) -> Html:
    """An element that has no end, such as `input`."""
    shown = "".join(f' {key.rstrip("_")}="{escape(str(value))}"' for key, value in attributes.items())
    return Html(f"<{tag}{shown}>")


def join(*children: object) -> Html:
    return Html("".join(text(child) for child in children))
