"""A web server that shows one folder, read only, and nothing beside it: files with byte ranges, and a start page.

Meant for the browser of who started it. A page of another site in the same browser gets nothing out of it: requests
must name this machine as their host, which ends DNS rebinding, and answers may not be read or framed elsewhere.
"""

import contextlib
import ipaddress
import logging
import os
import re
import socket
import socketserver
import stat
import sys
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from benexp.core.errors import BenexpError, one_line

log = logging.getLogger("benexp.serving.server")

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".tif": "image/tiff",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".xml": "application/xml",
    ".qml": "application/xml",
}
"""By suffix; all else is bytes to save, which no browser opens."""

HEADERS = {
    # What the pages of benexp need, and no other address: inline scripts and styles, GeoTIFFs, which a wasm unpacks.
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src 'self' data: blob:; font-src data:; connect-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ABSOLUTE = re.compile(r"http://([^/?#]*)(.*)", re.IGNORECASE)
_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class NotServedError(Exception):
    """There is no such file, or it is not for showing: nobody is told which."""


class Span(NamedTuple):
    """Bytes from `start` up to and without `stop`."""

    start: int
    stop: int


def open_below(root: Path, target: str) -> BufferedReader:
    """The file that a request's target names below the folder `root`.

    Raises NotServedError for what leaves the folder by dots or links, hidden files, folders, and all that is no file.
    """
    path = os.fsdecode(unquote_to_bytes(target.partition("?")[0]))
    first, *parts = path.split("/")
    if first or not parts or "\0" in path or any(part == "" or part[0] == "." for part in parts):
        raise NotServedError
    # Symbolic links within the folder are followed here, once; the walk below follows none, whatever changes meanwhile.
    try:
        real = root.resolve()
        inside = real.joinpath(*parts).resolve(strict=True).relative_to(real).parts
    except (OSError, ValueError, RuntimeError):
        raise NotServedError from None
    if any(part[0] == "." for part in inside):
        raise NotServedError
    with contextlib.ExitStack() as stack:
        folder = os.open(real, os.O_RDONLY | os.O_DIRECTORY)
        for part in inside:
            stack.callback(os.close, folder)
            try:
                # Non-blocking: a pipe would wait for its writer.
                folder = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            except OSError:
                raise NotServedError from None
        if not stat.S_ISREG(os.fstat(folder).st_mode):
            os.close(folder)
            raise NotServedError
        return open(folder, "rb")


def asked_range(header: str | None, size: int) -> Span | None:
    """The span of a file of `size` bytes that a Range header asks for; None if it is missing or not understood.

    A request for several ranges is answered with the whole file. An empty span is one that cannot be satisfied.
    """
    found = _ONE_RANGE.fullmatch(header.strip().lower()) if header else None
    if not found or found[0] == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        return Span(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    start = min(int(first), size)
    return Span(start, min(int(last) + 1, size) if last else size)


class FolderServer(ThreadingHTTPServer):
    """Serves the folder `root` at `host` and `port` (0: any free one), and what is `made` for other targets.

    `made` has a media type and what makes the content, in UTF-8, by target, such as `/`.

    Raises BenexpError where it cannot listen there.
    """

    daemon_threads = True

    def __init__(self, root: Path, host: str, port: int, made: Mapping[str, tuple[str, Callable[[], bytes]]]) -> None:
        self.root = root
        self.made = made
        try:
            self.address_family, _, _, _, (address, *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            super().__init__((str(address), port), Handler)
        except socket.gaierror as error:
            raise BenexpError(f"serve.host={host}: is no name or address of this machine ({error.strerror})") from error
        except OSError as error:
            raise BenexpError(
                f"serve.port={port}: cannot be had on {host} ({error.strerror}): name another, or 0 for any free one"
            ) from error
        ip = ipaddress.ip_address(self.server_name)
        self.is_local = ip.is_loopback
        self._is_everywhere = ip.is_unspecified
        self._names = {*LOOPBACK, host.lower(), str(ip)}
        self.url = f"http://{f'[{ip}]' if ip.version == 6 else ip}:{self.server_port}/"

    def server_bind(self) -> None:
        """Without the lookup of the machine's full name, which may wait for a name server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Log one line; none where a browser closed the connection, as for ranges of a map that was moved on."""
        error = sys.exception()
        if error and not isinstance(error, ConnectionError | TimeoutError):
            log.error("%s: %s", client_address, one_line(error))

    def is_called(self, host: str) -> bool:
        """True if a Host header names this server.

        A name that another site points to this machine is refused. Any IP address is accepted if the server listens on
        all addresses.
        """
        # A dot at the end says that a name is whole.
        name = re.sub(r":\d*$", "", host.strip().lower()).strip("[]").removesuffix(".")
        if name in self._names:
            return True
        if not self._is_everywhere:
            return False
        with contextlib.suppress(ValueError):
            return bool(ipaddress.ip_address(name))
        return name in (socket.gethostname().lower(), socket.getfqdn().lower())


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: FolderServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")

    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = do_POST  # noqa: N815

    def version_string(self) -> str:
        return "benexp"

    def log_message(self, format: str, *arguments: object) -> None:
        log.debug("%s %r", self.client_address[0], format % arguments)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def _answer(self) -> None:
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            # What follows is a body that nobody reads: never the next request.
            self.close_connection = True
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        target = self.path
        # As proxies are asked, which a server must take, too (RFC 9112, 3.2.2): both names must be its own.
        if absolute := _ABSOLUTE.fullmatch(target):
            hosts.append(absolute[1])
            target = absolute[2] if absolute[2].startswith("/") else f"/{absolute[2]}"
        path = target.partition("?")[0]
        if not all(map(self.server.is_called, hosts)):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
        elif made := self.server.made.get(path):
            self._send_made(path, *made)
        else:
            try:
                file = open_below(self.server.root, path)
            except NotServedError:
                self._refuse(HTTPStatus.NOT_FOUND)
                return
            with file:
                self._send_file(file, Path(path).suffix.lower())

    def _send_made(self, path: str, media_type: str, make: Callable[[], bytes]) -> None:
        try:
            page = make()
        # Whatever it is, whoever asked is not left without an answer.
        except Exception as error:
            log.error("%s: cannot be made: %s", path, one_line(error))
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "this page cannot be made: benexp says why where it runs")
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{media_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(page)

    def _send_file(self, file: BufferedReader, suffix: str) -> None:
        about = os.fstat(file.fileno())
        tag = f'"{about.st_mtime_ns:x}-{about.st_size:x}-{about.st_ino:x}"'
        changed = formatdate(about.st_mtime, usegmt=True)
        if tag in re.findall(r'"[^"]*"', self.headers.get("If-None-Match", "")):
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self.send_header("ETag", tag)
            self.end_headers()
            return
        span = None
        # A range of another version would be stitched to the wrong bytes: then all of this one is sent.
        if self.command == "GET" and self.headers.get("If-Range", tag) in (tag, changed):
            span = asked_range(self.headers.get("Range"), about.st_size)
        if span and span.start >= span.stop:
            self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, **{"Content-Range": f"bytes */{about.st_size}"})
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK)
        start, stop = span or (0, about.st_size)
        if span:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{about.st_size}")
        self.send_header("Content-Type", TYPES.get(suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", tag)
        self.send_header("Last-Modified", changed)
        self.end_headers()
        sent = self.connection.sendfile(file, start, stop - start) if self.command == "GET" and stop > start else None
        if sent is not None and sent < stop - start:
            # It became shorter meanwhile: the missing bytes must not be taken from the next answer.
            self.close_connection = True

    def _refuse(self, status: HTTPStatus, why: str = "", **headers: str) -> None:
        text = f"{status.value} {status.phrase}{why and ': '}{why}\n".encode()
        self.close_connection = True
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "text/plain", "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)
