from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from urllib.error import HTTPError

import pytest

from sqlhttp_gateway.no_redirect import opener


class _Elsewhere(BaseHTTPRequestHandler):
    """Sends whoever asks for /first on to /second, and says what was asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(302 if self.path == "/first" else 200)
        self.send_header("Location", "/second")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_redirect_is_an_error_and_nobody_goes_where_it_leads() -> None:
    _Elsewhere.asked = []
    with HTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(HTTPError) as refused:
                opener().open(f"http://127.0.0.1:{server.server_port}/first", timeout=5)
            refused.value.close()
        finally:
            server.shutdown()
            thread.join()
    assert refused.value.code == 302
    assert _Elsewhere.asked == ["/first"]
