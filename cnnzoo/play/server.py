"""The local server of the pages."""

import errno
import posixpath
import sys
import webbrowser
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from cnnzoo.errors import OptionError
from cnnzoo.play.pages import pages

HOST = "127.0.0.1"
HOME = "/play/"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".safetensors": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}


def serve(port: int = 8021, *, browser: bool = True, say: Callable[[str], object] = print) -> None:
    """Serve the pages to this computer only, until it is interrupted.

    The server hands out files; the page computes.

    Args:
        port: on the loopback address; 0 takes any that is free.
        browser: open the page in the browser.
        say: is told where the page is.

    Raises:
        OptionError: the port is in use, or may not be used.
    """
    with listening(port) as server:
        address = f"http://{HOST}:{server.server_port}{HOME}"
        say(f"{address} (Ctrl+C ends it)")
        if browser and not opened(address):
            say(f"no browser could be opened here; open {address} in one, or use --no-browser")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("")


def opened(address: str) -> bool:
    """Whether a browser took the address."""
    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False


def listening(port: int) -> ThreadingHTTPServer:
    """A server that has its port, and answers once `serve_forever` runs.

    Raises:
        OptionError: the port is in use, or may not be used.
    """
    handler = type("Pages", (_Handler,), {"files": pages()})
    try:
        return _Server((HOST, port), handler)
    except OverflowError:
        why = "there is no such port"
    except OSError as error:
        why = "it is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
    raise OptionError(
        f"cannot listen on port {port} of {HOST}: {why}; choose another with --port, or --port 0 for any free one"
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # On Windows, an address that may be reused can be taken twice, and which server answers is left to chance.
    allow_reuse_address = sys.platform != "win32"


class _Handler(BaseHTTPRequestHandler):
    files: dict[str, bytes]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/" or f"{path[1:]}/index.html" in self.files:
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", HOME if path == "/" else f"{path}/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        name = path[1:] + ("index.html" if path.endswith("/") else "")
        content = self.files.get(name)
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES[posixpath.splitext(name)[1]])
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()
        if with_body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal is for the address."""
