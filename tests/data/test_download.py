"""The verified download, against a real server on loopback that behaves well or badly."""

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rnn_imdb.common.errors import UserError
from rnn_imdb.data import archive as download_module
from rnn_imdb.data.archive import AclImdbReviews, download

# longer than one read of the client
CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Answers each path in a way of its own, and counts the requests."""

    # a stalled answer must not hold up the end of the test
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.requests: list[str] = []
        self.finished = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride] the handler serves this server alone

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.requests.append(name)
        content = self.server.content
        if name.isdigit():
            self.send_error(int(name))
        elif name == "garbage":
            self.wfile.write(b"this is not HTTP\r\n\r\n")
        elif name == "chunked":
            self._headers(("Transfer-Encoding", "chunked"))
            self.wfile.write(b"ffff\r\nless than announced")
        else:
            self._headers(("Content-Length", str(len(content))))
            half = len(content) // 2
            self.wfile.write(content[:half])
            if name == "stall":
                self.wfile.flush()
                self.server.finished.wait(10)
            elif name != "cut":
                self.wfile.write(content[half:])

    def _headers(self, *headers: tuple[str, str]) -> None:
        self.send_response(200)
        for header in headers:
            self.send_header(*header)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.finished.set()
        server.shutdown()
        thread.join()


def test_a_good_file_arrives_whole_and_alone(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "archive.tar.gz"
    download(server.url("good"), path, SHA256)
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["archive.tar.gz"]
    shown = capfd.readouterr()
    assert f"downloading {server.url('good')} to {path}" in shown.out
    assert "100%" in shown.err, "a long download needs a bar"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("404", "404"),
        ("500", "500"),
        ("cut", "invalid hash value|IncompleteRead"),
        ("stall", "timed out"),
        ("garbage", "not HTTP"),
        ("chunked", "IncompleteRead"),
    ],
)
def test_a_server_that_fails_is_reported_and_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, reason: str
) -> None:
    monkeypatch.setattr(download_module, "TIMEOUT_SECONDS", 0.5)
    with pytest.raises(UserError, match=rf"(?s)could not be downloaded to .*({reason}).*try again, or .* IMDB_ROOT"):
        download(server.url(answer), tmp_path / "archive.tar.gz", SHA256)
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_another_checksum_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f'invalid hash value .expected "{"0" * 64}", got "{SHA256}"'):
        download(server.url("good"), tmp_path / "archive.tar.gz", "0" * 64)
    assert list(tmp_path.iterdir()) == []


def test_no_server_at_all_is_reported(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/good"
        with pytest.raises(UserError, match="Connection refused"):
            download(url, tmp_path / "archive.tar.gz", SHA256)


def test_a_folder_that_cannot_be_made_is_reported(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"could not be downloaded to .*file/data/archive"):
        download(server.url("good"), tmp_path / "file" / "data" / "archive.tar.gz", SHA256)
    assert server.requests == []


@pytest.mark.parametrize("before", [None, 7.0])
@pytest.mark.parametrize("answer", ["good", "404"])
def test_the_socket_timeout_is_set_and_restored(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: float | None, answer: str
) -> None:
    seen = []
    connect = socket.create_connection

    def observed(*arguments: object, **options: object) -> socket.socket:
        seen.append(socket.getdefaulttimeout())
        return connect(*arguments, **options)  # pyright: ignore[reportArgumentType] passed on as received

    monkeypatch.setattr(socket, "create_connection", observed)
    original = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before)
    try:
        if answer == "good":
            download(server.url(answer), tmp_path / "archive.tar.gz", SHA256)
        else:
            with pytest.raises(UserError):
                download(server.url(answer), tmp_path / "archive.tar.gz", SHA256)
        assert socket.getdefaulttimeout() == before
    finally:
        socket.setdefaulttimeout(original)
    assert seen == [30.0]


@pytest.fixture
def mirror(server: Server, small_archive: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server in place of the official one, with the small archive."""
    server.content = small_archive.read_bytes()
    monkeypatch.setattr(AclImdbReviews, "URL", server.url("good"))
    monkeypatch.setattr(AclImdbReviews, "SHA256", hashlib.sha256(server.content).hexdigest())
    return server


@pytest.mark.parametrize("named", [True, False])
def test_reviews_are_downloaded_once_into_an_empty_folder_or_a_new_one_that_nobody_named(
    mirror: Server, small_archive: Path, named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMDB_ROOT", raising=False)
    root = tmp_path / "data" if named else None
    if root:
        root.mkdir()
    for _ in range(2):
        assert AclImdbReviews(root, 40).read() == AclImdbReviews(small_archive, 40).read()
    assert mirror.requests == ["good"]
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["aclImdb_v1.tar.gz"]


def test_a_failed_download_is_tried_again(mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMDB_ROOT", raising=False)
    reviews = AclImdbReviews(None, 40)
    monkeypatch.setattr(AclImdbReviews, "URL", mirror.url("cut"))
    with pytest.raises(UserError, match=r"could not be downloaded to .*data/aclImdb_v1"):
        reviews.read()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(AclImdbReviews, "URL", mirror.url("good"))
    assert len(reviews.read()) == 160
