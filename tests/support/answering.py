"""An ordinary HTTP server on loopback: a function gives its answers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.server import Asked

Answer = tuple[int, bytes]
"""Status and body."""


@contextlib.contextmanager
def answering(answer: Callable[[Asked], Answer]) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1; gives its address.

    :param answer: to a request; what raises ``ConnectionError`` drops the connection.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))  # or it is taken for the next request
            headers = {key.lower(): value for key, value in self.headers.items()}
            try:
                status, content = answer(Asked(self.command, self.path, headers, body))
            except ConnectionError:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815  # names that the standard library asks for

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
