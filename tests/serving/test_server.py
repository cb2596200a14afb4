"""What the server gives out, and what it never does."""

import http.client
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benexp.core.errors import BenexpError
from benexp.serving.server import FolderServer, Span, asked_range

CONTENT = os.urandom(300_000)
SECRET = b"the secret"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FolderServer]:
    """A server in a thread, over a folder beside which lies what it must not show."""
    above = tmp_path_factory.mktemp("above")
    root = above / "out"
    tile = root / "Zürich <1>"
    tile.mkdir(parents=True)
    (tile / "a.tif").write_bytes(CONTENT)
    (tile / "empty.csv").write_bytes(b"")
    (tile / "viewer.html").write_text("<p>Hello")
    (tile / ".hidden").write_bytes(SECRET)
    (tile / "%2e%2e").write_text("a name of percents")
    (root / ".unfinished-x").mkdir()
    (root / ".unfinished-x" / "a.tif").write_bytes(SECRET)
    (above / "secret.txt").write_bytes(SECRET)
    (above / "out2").mkdir()
    (above / "out2" / "secret.txt").write_bytes(SECRET)
    (root / os.fsdecode(b"b\xffd \xfc.csv")).write_bytes(b"odd")
    (root / "out").symlink_to(above / "secret.txt")
    (root / "away").symlink_to(above)
    (root / "loop").symlink_to(root / "loop")
    (root / "inside.tif").symlink_to(tile / "a.tif")
    (root / "to_hidden").symlink_to(tile / ".hidden")
    os.mkfifo(root / "pipe")

    def broken() -> bytes:
        raise FileNotFoundError("the disk\nis gone")

    made = {"/": ("text/html", lambda: b"<p>Start"), "/-/broken": ("text/html", broken)}
    with FolderServer(root, "127.0.0.1", 0, made) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(
    server: FolderServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.msg
    finally:
        connection.close()


TIF = "/Z%C3%BCrich%20%3C1%3E/a.tif"


def test_files_and_the_start_page(server: FolderServer) -> None:
    assert get(server, "/")[:2] == (200, b"<p>Start")
    assert get(server, "/?x=1")[0] == 200
    status, body, headers = get(server, TIF)
    assert (status, body) == (200, CONTENT)
    assert headers["Content-Type"] == "image/tiff" and headers["Accept-Ranges"] == "bytes"
    assert get(server, "/inside.tif")[1] == CONTENT
    assert get(server, TIF + "?t=1")[1] == CONTENT
    status, body, headers = get(server, "/Z%C3%BCrich%20%3C1%3E/viewer.html")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert get(server, "/Z%C3%BCrich%20%3C1%3E/%252e%252e")[1] == b"a name of percents"
    assert get(server, "/b%ffd%20%FC.csv")[:2] == (200, b"odd")


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/%2E%2E%2Fsecret.txt",
        "/%252e%252e/secret.txt",
        "/x/../../secret.txt",
        "/Z%C3%BCrich%20%3C1%3E/../../secret.txt",
        "/./inside.tif",
        "/Z%C3%BCrich%20%3C1%3E/../inside.tif",
        "/../out2/secret.txt",
        "/..\\secret.txt",
        "/..%5csecret.txt",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/%2Fetc/passwd",
        "/etc/passwd",
        "etc/passwd",
        "http://127.0.0.1/secret.txt",
        "http://127.0.0.1/../secret.txt",
        "http://127.0.0.1//etc/passwd",
        "https://127.0.0.1/",
        "file:///etc/passwd",
        "*",
        "/out",
        "/away",
        "/away/secret.txt",
        "/away/out2/secret.txt",
        "/loop",
        "/to_hidden",
        "/pipe",
        "/.unfinished-x/a.tif",
        "/Z%C3%BCrich%20%3C1%3E/.hidden",
        "/Z%C3%BCrich%20%3C1%3E",
        "/Z%C3%BCrich%20%3C1%3E/",
        "/Z%C3%BCrich%20%3C1%3E//a.tif",
        "/Z%C3%BCrich%20%3C1%3E/a.tif/",
        "/Z%C3%BCrich%20%3C1%3E/a.tif%00",
        "/Z%C3%BCrich%20%3C1%3E/a.tif%00.html",
        "/Z%FCrich",
        "/" + "a/" * 3000,
        "/" + "a" * 5000,
        "/nothing.tif",
    ],
)
def test_nothing_else_is_shown(server: FolderServer, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404 "), answer[:200]
    assert SECRET not in answer and b"root:" not in answer


def test_a_link_that_is_put_there_meanwhile_is_not_followed(
    server: FolderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").mkdir()
    victim = tmp_path / "root" / "a.tif"
    victim.write_bytes(b"fine")
    (tmp_path / "secret").write_bytes(SECRET)
    real = os.open

    def swap(path: object, *arguments: int, **more: int) -> int:
        if path == "a.tif":
            victim.unlink()
            victim.symlink_to(tmp_path / "secret")
        return real(path, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(server, "root", tmp_path / "root")
    assert get(server, "/a.tif")[1] == b"fine"
    monkeypatch.setattr(os, "open", swap)
    assert get(server, "/a.tif")[0] == 404


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-99", (0, 100)),
        ("bytes=16-16", (16, 17)),
        ("bytes=299990-", (299990, 300000)),
        ("bytes=299990-999999999", (299990, 300000)),
        ("bytes=-7", (299993, 300000)),
        ("bytes=-999999999", (0, 300000)),
        ("Bytes=5-9", (5, 10)),
    ],
)
def test_ranges_are_the_files_bytes(server: FolderServer, asked: str, span: tuple[int, int]) -> None:
    status, body, headers = get(server, TIF, Range=asked)
    assert (status, body) == (206, CONTENT[slice(*span)])
    assert headers["Content-Range"] == f"bytes {span[0]}-{span[1] - 1}/300000"
    assert headers["Content-Length"] == str(span[1] - span[0])


@pytest.mark.parametrize("asked", ["bytes=300000-", "bytes=999999-9999999", "bytes=-0"])
def test_ranges_behind_the_end(server: FolderServer, asked: str) -> None:
    status, _, headers = get(server, TIF, Range=asked)
    assert status == 416 and headers["Content-Range"] == "bytes */300000"


@pytest.mark.parametrize(
    "asked", ["bytes=5-4", "bytes=-", "bytes=a-b", "lines=0-5", "bytes=0-1,5-9", "bytes=" + "9" * 5000 + "-"]
)
def test_what_is_no_single_range_gets_the_whole(server: FolderServer, asked: str) -> None:
    assert get(server, TIF, Range=asked)[:2] == (200, CONTENT)


def test_an_empty_file(server: FolderServer) -> None:
    path = TIF.replace("a.tif", "empty.csv")
    assert get(server, path)[:2] == (200, b"")
    assert get(server, path, Range="bytes=0-")[0] == 416
    assert asked_range("bytes=-5", 0) == Span(0, 0)


def test_head_sends_no_body(server: FolderServer) -> None:
    status, body, headers = get(server, TIF, "HEAD", Range="bytes=0-9")
    assert (status, body, headers["Content-Length"]) == (200, b"", "300000")
    assert get(server, "/", "HEAD")[1] == b""
    assert get(server, "/nothing", "HEAD")[:2] == (404, b"")


def test_versions_are_not_mixed(server: FolderServer) -> None:
    headers = get(server, TIF, "HEAD")[2]
    tag, changed = headers["ETag"], headers["Last-Modified"]
    for same in (tag, changed):
        assert get(server, TIF, Range="bytes=0-9", If_Range=same)[0] == 206
    for other in ('"other"', f"W/{tag}", "Thu, 01 Jan 1970 00:00:00 GMT"):
        assert get(server, TIF, Range="bytes=0-9", If_Range=other)[:2] == (200, CONTENT)
    assert get(server, TIF, If_None_Match=f'"other", W/{tag}')[:2] == (304, b"")
    file = server.root / "Zürich <1>" / "a.tif"
    os.utime(file, (1, 1))
    assert get(server, TIF, Range="bytes=0-9", If_Range=tag)[0] == 200
    assert get(server, TIF, If_None_Match=tag)[0] == 200


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LOCALHOST:8080", "[::1]:1", "localhost.", "localhost.:80"])
def test_names_of_this_machine_are_answered(server: FolderServer, host: str) -> None:
    assert get(server, "/", Host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil:80",
        "192.168.0.7",
        "",
        "a@localhost",
        ".",
        "localhost..",
    ],
)
def test_other_names_are_not(server: FolderServer, host: str) -> None:
    status, body, _ = get(server, "/", Host=host)
    assert status == 421 and b"Start" not in body


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://127.0.0.1:8000/", "127.0.0.1:8000", 200),
        ("HTTP://localhost", "127.0.0.1", 200),
        ("http://localhost?x=1", "localhost", 200),
        ("http://localhost/inside.tif", "localhost", 200),
        ("http://evil.example/", "localhost", 421),
        ("http://localhost/", "evil.example", 421),
        ("http://localhost@evil.example/", "localhost", 421),
        ("http://evil@localhost/", "localhost", 421),
        ("http://evil.example#localhost/", "localhost", 421),
        ("http:///", "localhost", 421),
    ],
)
def test_a_whole_address_is_answered_where_all_of_it_is_this_machine(
    server: FolderServer, target: str, host: str, status: int
) -> None:
    assert get(server, target, Host=host)[0] == status


def test_a_page_that_cannot_be_made_is_an_answer_and_a_line(
    server: FolderServer, caplog: pytest.LogCaptureFixture
) -> None:
    status, body, _ = get(server, "/-/broken?x=1")
    assert status == 500 and b"cannot be made" in body and b"disk" not in body
    assert [record.message for record in caplog.records] == [
        "/-/broken: cannot be made: FileNotFoundError: the disk is gone"
    ]
    assert get(server, "/")[0] == 200


def test_no_host_or_two_are_refused(server: FolderServer) -> None:
    for lines in ("", "Host: localhost\r\nHost: evil.example\r\n"):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\n{lines}Connection: close\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_but_reading(server: FolderServer, method: str) -> None:
    status, _, headers = get(server, TIF, method)
    assert status == 405 and headers["Allow"] == "GET, HEAD"


def test_a_body_is_never_the_next_request(server: FolderServer) -> None:
    inner = b"GET /inside.tif HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_connection_serves_several_ranges(server: FolderServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    for start in (0, 500, 299_000):
        connection.request("GET", TIF, headers={"Range": f"bytes={start}-{start + 99}"})
        assert connection.getresponse().read() == CONTENT[start : start + 100]
    connection.close()


def test_every_answer_has_the_headers_that_keep_others_out(server: FolderServer) -> None:
    for path in ("/", TIF, "/nothing"):
        headers = get(server, path)[2]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Access-Control-Allow-Origin"] is None
        assert "Python" not in headers["Server"]


def test_a_taken_port_is_one_line(server: FolderServer) -> None:
    with pytest.raises(BenexpError, match=rf"serve.port={server.server_port}: cannot be had on 127.0.0.1 \(.*in use"):
        FolderServer(server.root, "127.0.0.1", server.server_port, {})
    with pytest.raises(BenexpError, match=r"serve\.host=no\.such\.invalid: is no name"):
        FolderServer(server.root, "no.such.invalid", 0, {})


def test_everywhere_answers_to_addresses_and_the_machines_name(tmp_path: Path) -> None:
    with FolderServer(tmp_path, "0.0.0.0", 0, {}) as everywhere:
        assert not everywhere.is_local
        assert everywhere.is_called("192.168.0.7:8080") and everywhere.is_called(socket.gethostname())
        assert not everywhere.is_called("evil.example")
