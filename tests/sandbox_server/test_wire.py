"""HTTP itself: kept connections, chunked and packed bodies, what is too big, what is malformed."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator

import httpx

from reverse_etl.sandbox.server import Sandbox

HEADERS = {"Authorization": "Bearer sandbox-token", "Content-Type": "application/json"}
BODY = b'{"inputs": [{"id": "ada@x.io", "idProperty": "email", "properties": {}}]}'
UPSERT = "/crm/v3/objects/contacts/batch/upsert"


def raw(sandbox: Sandbox, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_one_connection_serves_many_requests(sandbox: Sandbox) -> None:
    request = b"GET /services/data HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = raw(sandbox, request * 3)
    assert answer.count(b"HTTP/1.1 200") == 3


def test_a_chunked_body_is_read_whole(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(BODY), 7):
            yield BODY[start : start + 7]

    assert hubspot.post(UPSERT, content=pieces(), headers=HEADERS).status_code == 200


def test_a_packed_body_is_unpacked_and_a_broken_one_refused(hubspot: httpx.Client) -> None:
    headers = {**HEADERS, "Content-Encoding": "gzip"}
    assert hubspot.post(UPSERT, content=gzip.compress(BODY), headers=headers).status_code == 200
    assert hubspot.post(UPSERT, content=b"not packed", headers=headers).status_code == 400
    assert hubspot.post(UPSERT, content=gzip.compress(BODY)[:-4], headers=headers).status_code == 400


def test_a_large_answer_is_packed_for_those_who_take_it(hubspot: httpx.Client) -> None:
    packed = hubspot.get("/crm/v3/properties/contacts")
    plain = hubspot.get("/crm/v3/properties/contacts", headers={"Accept-Encoding": "identity"})
    assert packed.json() == plain.json()
    assert "content-encoding" not in plain.headers


def test_a_client_that_waits_for_leave_to_send_gets_it(sandbox: Sandbox) -> None:
    head = b"POST /services/oauth2/token HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(b"x")
        assert b"HTTP/1.1 400" in connection.recv(1000)


def test_no_http_at_all_is_refused_and_hurts_nobody(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    assert raw(sandbox, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert raw(sandbox, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000).startswith(b"HTTP/1.1 431")
    assert hubspot.get("/account-info/v3/details").status_code == 200


def test_a_big_upload_arrives_whole(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    made = salesforce.post("/jobs/ingest", json={"object": "Lead", "operation": "insert"}).json()["id"]
    data = b"LastName,Company\n" + b"x" * 20_000_000
    answer = salesforce.put(f"/jobs/ingest/{made}/batches", content=data, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 201


def test_a_target_that_is_too_long_is_told_so(salesforce: httpx.Client) -> None:
    assert salesforce.get("/query", params={"q": "x" * 17_000}).status_code == 414


def test_many_clients_are_served_at_once(sandbox: Sandbox) -> None:
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            with httpx.Client(base_url=sandbox.url, trust_env=False, headers=HEADERS) as client:
                for turn in range(20):
                    email = f"u{number}-{turn}@x.io".encode()
                    assert client.post(UPSERT, content=BODY.replace(b"ada@x.io", email)).status_code == 200
        except (httpx.HTTPError, AssertionError) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(sandbox.hubspot.records("contacts")) == 160


def test_requests_of_odd_shapes_are_answered_and_never_break_the_server(hubspot: httpx.Client) -> None:
    for body in ("[]", "null", '{"inputs": {}}', '{"inputs": [1]}', '{"inputs": [{"idProperty": 5, "id": {}}]}'):
        assert hubspot.post(UPSERT, content=body, headers=HEADERS).status_code == 400
    assert hubspot.post("/crm/v3/objects/contacts/nothing/like/it").status_code == 404
    assert hubspot.get("/crm/nothing").status_code == 404
    assert hubspot.put("/crm/v3/objects/contacts/1").status_code == 405
