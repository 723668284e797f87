"""A small shop's end of the webhook: remembers what arrived and answers as told, per payment."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_SECONDS = 30


class WebhookReceiver:
    """`arrived` are the raw bodies; `statuses[payment_id]` are answers to give first, then 200."""

    def __init__(self) -> None:
        self.arrived: list[bytes] = []
        self.statuses: dict[str, list[int]] = defaultdict(list)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(receiver.take(body))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/webhook"

    def take(self, body: bytes) -> int:
        self.arrived.append(body)
        for payment_id, statuses in self.statuses.items():
            if payment_id.encode() in body and statuses:
                return statuses.pop(0)
        return 200

    def about(self, object_id: str) -> list[dict[str, Any]]:
        """List the well-formed notifications about one object (or about refunds of one payment)."""
        return [json.loads(body) for body in self.arrived if object_id.encode() in body and body[-1:] == b"}"]

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition about what arrived. Raises AssertionError."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "the webhook did not arrive"
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
