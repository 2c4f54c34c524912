"""A destination that repeats whatever it is sent: credentials in its messages, in every form they may travel in."""

from __future__ import annotations

import base64
import json
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote

SESSION, ROTATED = "cAnary-session/of+an=hour-51", "cAnary-rotated/of+an=app-52"


def forms(secret: str) -> dict[str, str]:
    """A secret as it may be written."""
    raw = secret.encode()
    return {
        "plain": secret,
        "base64": base64.b64encode(raw).decode().rstrip("="),
        "base64 for urls": base64.urlsafe_b64encode(raw).decode().rstrip("="),
        "quoted": quote(secret, safe=""),
        "hex": raw.hex(),
        "json": json.dumps(secret)[1:-1],
    }


class _Echo(BaseHTTPRequestHandler):
    """Reads like the sandbox behind it, grants tokens of its own, and refuses every write with all that it knows."""

    behind: str
    token: str

    def do_GET(self) -> None:
        request = urllib.request.Request(  # noqa: S310  # the sandbox's own address
            self.behind + self.path, headers={"authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            self._answer(answer.status, answer.read())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        form = dict(parse_qsl(body))
        if form.get("grant_type") == "refresh_token" and "echo" not in form["client_id"]:
            granted = {"access_token": SESSION, "refresh_token": ROTATED, "expires_in": 1800}
            self._answer(200, json.dumps(granted).encode())
            return
        credential = self.headers.get("authorization", "").removeprefix("Bearer ")
        told = [credential, *form.values()]
        words = " ".join(text for secret in told if secret for text in forms(secret).values())
        refused = {
            "status": "error",
            "category": "VALIDATION_ERROR",
            "message": f"refused: {words}"[:4000],
            "error": "invalid_grant",
            "error_description": f"refused: {words}"[:4000],
        }
        self._answer(400, json.dumps(refused).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def echoing(behind: str, token: str) -> Iterator[str]:
    """Its address, for as long as this lasts."""
    handler = type("Handler", (_Echo,), {"behind": behind, "token": token})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def found(secrets: Mapping[str, str], content: bytes) -> list[str]:
    """Which secrets stand in some bytes, and in which form."""
    return [
        f"{kind} ({form})"
        for kind, secret in secrets.items()
        for form, text in forms(secret).items()
        if text.encode() in content
    ]
