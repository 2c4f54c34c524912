"""The pages for people, from `/` on: records per object, one record's values, the latest requests.

Everything is text: whatever a value holds, it is escaped, and the pages' policy forbids scripts altogether.
"""

from __future__ import annotations

from importlib import resources
from itertools import islice
from typing import Any
from urllib.parse import quote

from reverse_etl.sandbox.clock import iso
from reverse_etl.sandbox.hubspot.app import HubSpot
from reverse_etl.sandbox.journal import Entry, RequestLog
from reverse_etl.sandbox.markup import Html, element, join, void
from reverse_etl.sandbox.messages import HTML, Request, Response
from reverse_etl.sandbox.salesforce.app import Salesforce

PAGE = 50
COLUMNS = 6
LATEST = 25
POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
HIDDEN = frozenset(
    {"hs_object_id", "createdate", "lastmodifieddate", "hs_lastmodifieddate", "CreatedDate", "LastModifiedDate"}
)
NAMES = {"hubspot": "HubSpot", "salesforce": "Salesforce"}


class Pages:
    def __init__(self, hubspot: HubSpot, salesforce: Salesforce, requests: RequestLog) -> None:
        self._platforms: dict[str, HubSpot | Salesforce] = {"hubspot": hubspot, "salesforce": salesforce}
        self._requests = requests

    def __call__(self, request: Request) -> Response:
        match request.segments:
            case []:
                return self._page(request, "Sandbox", self._overview())
            case ["style.css"]:
                style = resources.files("reverse_etl.sandbox").joinpath("style.css").read_bytes()
                return _secured(Response(200, style, "text/css; charset=utf-8"))
            case ["requests"]:
                entries = list(self._requests)[:-501:-1]
                return self._page(request, "Requests", join(element("h1", "Latest requests"), _request_table(entries)))
            case ["records", platform, kind] if self._has(platform, kind):
                return self._page(request, kind, self._object(request, platform, kind))
            case ["records", platform, kind, record_id] if self._has(platform, kind):
                shown = self._record(platform, kind, record_id)
                if shown is not None:
                    return self._page(request, f"{kind} {record_id}", shown)
        missing = join(element("h1", "Nothing here"), element("p", "The sandbox has no such page.", class_="lead"))
        return self._page(request, "Not found", missing, status=404)

    def _has(self, platform: str, kind: str) -> bool:
        return platform in self._platforms and kind in self._platforms[platform].objects()

    def _page(self, request: Request, title: str, content: Html, status: int = 200) -> Response:
        head = element(
            "head",
            void("meta", charset="utf-8"),
            void("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", f"{title} · Sandbox"),
            void("link", rel="stylesheet", href="/style.css"),
        )
        bar = element(
            "header",
            element(
                "div",
                element("a", "Sandbox", href="/", class_="name"),
                element("a", "Records", href="/"),
                element("a", "Requests", href="/requests"),
                element("span", request.headers.get("host", ""), class_="where"),
            ),
        )
        document = "<!doctype html>" + element("html", head, element("body", bar, element("main", content)), lang="en")
        return _secured(Response(status, document.encode("utf-8", "replace"), HTML))

    def _overview(self) -> Html:
        cards = [self._card(name) for name in self._platforms]
        entries = list(self._requests)[: -LATEST - 1 : -1]
        return join(
            element("h1", "What the two CRMs hold now"),
            element("p", "Emulated accounts on this machine. Nothing here leaves it.", class_="lead"),
            element("div", *cards, class_="platforms"),
            element("h2", "Latest requests"),
            _request_table(entries),
        )

    def _card(self, platform: str) -> Html:
        rows = [
            element(
                "tr",
                element("td", element("a", kind, href=f"/records/{platform}/{quote(kind)}")),
                element("td", f"{self._platforms[platform].count(kind):,}", class_="number"),
            )
            for kind in self._platforms[platform].objects()
        ]
        return element("section", element("h2", NAMES[platform]), element("table", *rows), class_="card")

    def _object(self, request: Request, platform: str, kind: str) -> Html:
        wanted = request.query.get("find", "").strip()
        number = max(1, int(request.query.get("page") or 1)) if request.query.get("page", "1").isdigit() else 1
        vendor = self._platforms[platform]
        count = vendor.count(kind)
        if wanted:
            records = vendor.search_text(kind, wanted)
            note = f"{len(records)} found for “{wanted}”"
        else:
            records = vendor.some(kind, (number - 1) * PAGE, number * PAGE)
            note = f"{count:,} records"
        search = element(
            "form",
            void("input", name="find", value=wanted, placeholder="Record id, e-mail or external id"),
            element("button", "Find"),
            method="get",
        )
        pages = [] if wanted else _page_links(number, count)
        return join(
            element("h1", f"{NAMES[platform]} {kind}"),
            element("p", note, class_="lead"),
            search,
            _record_table(platform, kind, records),
            element("nav", *pages, class_="pages"),
        )

    def _record(self, platform: str, kind: str, record_id: str) -> Html | None:
        record = self._platforms[platform].record(kind, record_id)
        if record is None:
            return None
        values = _values(record)
        rows = [
            element("tr", element("th", name, class_="mono"), element("td", value, class_="value"))
            for name, value in sorted(values.items(), key=lambda entry: (entry[0] in HIDDEN, entry[0].lower()))
        ]
        return join(
            element("h1", _title(values) or record_id),
            element(
                "p",
                element("a", f"{NAMES[platform]} {kind}", href=f"/records/{platform}/{quote(kind)}"),
                " · ",
                element("span", record_id, class_="mono"),
                class_="lead",
            ),
            element("div", element("table", *rows), class_="card"),
        )


def _values(record: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = record.get("properties") or record
    return values


def _title(values: dict[str, Any]) -> str:
    first = " ".join(
        str(values[name]) for name in ("firstname", "lastname", "FirstName", "LastName") if values.get(name)
    )
    others = ("name", "Name", "dealname", "subject", "email")
    return first or next((str(values[name]) for name in others if values.get(name)), "")


def _record_table(platform: str, kind: str, records: list[dict[str, Any]]) -> Html:
    if not records:
        return element("div", element("p", "No records.", class_="empty"), class_="card")
    seen = dict.fromkeys(name for record in records for name in _values(record) if name not in HIDDEN and name != "Id")
    names = list(islice(seen, COLUMNS))
    head = element("thead", element("tr", *[element("th", name) for name in ("id", *names)]))
    rows = []
    for record in records:
        record_id = str(record.get("id") or record.get("Id"))
        values = _values(record)
        link = element("a", record_id, href=f"/records/{platform}/{quote(kind)}/{quote(record_id)}", class_="mono")
        rows.append(
            element("tr", element("td", link), *[element("td", values.get(name), class_="cut") for name in names])
        )
    return element("div", element("table", head, element("tbody", *rows)), class_="card")


def _request_table(entries: list[Entry]) -> Html:
    if not entries:
        return element("div", element("p", "No requests yet.", class_="empty"), class_="card")
    columns = ("time (UTC)", "method", "path", "rows", "status")
    head = element(
        "thead", element("tr", *[element("th", name, class_="number" if name == "rows" else None) for name in columns])
    )
    rows = [
        element(
            "tr",
            element("td", iso(entry.at)[11:23], class_="mono soft"),
            element("td", entry.method, class_="mono"),
            element("td", entry.path, class_="mono"),
            element("td", entry.rows or "", class_="number"),
            element("td", _status(entry), " ", element("span", entry.fault, class_="tag") if entry.fault else None),
        )
        for entry in entries
    ]
    return element("div", element("table", head, element("tbody", *rows)), class_="card")


def _status(entry: Entry) -> Html:
    if entry.status == 0:
        return element("span", "cut", class_="bad")
    mark = "good" if entry.status in (200, 201, 204) else "warn" if entry.status < 400 or entry.status == 429 else "bad"
    return element("span", entry.status, class_=mark)


def _page_links(number: int, count: int) -> list[Html]:
    last = max(1, -(-count // PAGE))
    links = []
    if number > 1:
        links.append(element("a", "← back", href=f"?page={number - 1}"))
    if last > 1:
        links.append(element("span", f"page {number:,} of {last:,}"))
    if number < last:
        links.append(element("a", "on →", href=f"?page={number + 1}"))
    return links


def _secured(response: Response) -> Response:
    response.headers = {
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return response
