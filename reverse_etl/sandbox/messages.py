"""What the server and the emulated platforms pass to each other: requests, responses and how to answer them badly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson

JSON = "application/json;charset=utf-8"
HTML = "text/html; charset=utf-8"


class MalformedBody(Exception):
    """The body isn't what its request says: not JSON, or not the shape the endpoint takes."""


@dataclass(slots=True)
class Request:
    """One request, read whole and unpacked."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    path: str = ""
    query: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        raw, _, query = self.target.partition("?")
        self.path = unquote(raw) if "%" in raw else raw
        self.query = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
        self.notes["raw_path"] = raw

    @property
    def segments(self) -> list[str]:
        """The path's parts, decoded one by one, so that an escaped slash stays inside its part."""
        raw: str = self.notes["raw_path"]
        return [unquote(part) if "%" in part else part for part in raw.split("/") if part]

    def json(self) -> Any:
        """The body as JSON; raises `MalformedBody` with the parser's words."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise MalformedBody(f"line {error.lineno}, column {error.colno}: {error.msg}") from None

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def parts(self) -> dict[str, bytes]:
        """The parts of a multipart body by name; empty when it is none."""
        head = b"Content-Type: " + self.headers.get("content-type", "").encode("latin-1") + b"\r\n\r\n"
        found: dict[str, bytes] = {}
        for part in BytesParser(policy=HTTP).parsebytes(head + self.body).iter_parts():
            payload = part.get_payload(decode=True)
            found[str(part.get_param("name", header="content-disposition"))] = (
                payload if isinstance(payload, bytes) else b""
            )
        return found

    def query_list(self, name: str) -> list[str]:
        """Every value that the query gives a name, be it repeated or separated by commas."""
        _, _, query = self.target.partition("?")
        given = [value for key, value in parse_qsl(query) if key == name]
        return [part for value in given for part in value.split(",") if part]

    def bearer(self) -> str | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" and token.strip() else None


@dataclass(slots=True)
class Response:
    """One answer. The last four say how the wire spoils it; only faults set them."""

    status: int
    body: bytes = b""
    content_type: str | None = JSON
    headers: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    delay: float = 0.0
    cut: bool = False
    truncate: bool = False
    drip: float = 0.0


Handler = Callable[[Request], Response]


def json_response(status: int, value: Any, *, content_type: str = JSON, rows: int = 0) -> Response:
    return Response(status, orjson.dumps(value), content_type, rows=rows)


def empty(status: int = 204) -> Response:
    return Response(status, b"", None)
