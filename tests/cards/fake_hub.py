"""A hub in the test process: repositories in memory, ranges, redirects, errors as the real one codes them.

It answers as huggingface.co does where its client looks: X-Repo-Commit, ETag, X-Error-Code, and 302 to a host of large
files for safetensors.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PATH = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Blob:
    """A file that may be far larger than its content: the rest is zeros that are made when asked for."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        self.content, self.size = content, size if size is not None else len(content)

    def part(self, start: int, end: int) -> bytes:
        return (self.content[start:end] + bytes(max(0, end - max(start, len(self.content)))))[: end - start]


class Repo:
    """One model: its files, and what it answers instead of them."""

    def __init__(
        self, files: dict[str, Blob] | None = None, *, error: tuple[int, str] | None = None, moved: str = ""
    ) -> None:
        self.files, self.error, self.moved = files or {}, error, moved


class FakeHub:
    """``requests``: (host, method, path, range, token) of everything that was asked; ``sent``: bytes of bodies."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[tuple[str, str, str, str, str]] = []
        self.sent = 0
        self.ranges = True
        self.large = ""  # where safetensors files really are
        self.endpoint = ""

    def add(self, name: str, files: dict[str, Any], **fields: Any) -> None:
        """A repository; a value that is no Blob is written as JSON."""
        made = {key: each if isinstance(each, Blob) else Blob(json.dumps(each).encode()) for key, each in files.items()}
        self.repos[name] = Repo(made, **fields)

    def asked(self, method: str, part: str) -> list[tuple[str, str, str, str, str]]:
        return [each for each in self.requests if each[1] == method and part in each[2]]


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            host, token = self.headers.get("Host", ""), self.headers.get("Authorization", "")
            hub.requests.append((host, self.command, self.path, self.headers.get("Range", ""), token))
            found = _PATH.fullmatch(self.path)
            if not found:
                return self._plain(404, {})
            repo, revision, file = hub.repos.get(found[1]), found[2], found[3]
            if repo is None:
                return self._plain(401, {"X-Error-Code": "RepoNotFound"})
            if repo.moved:
                return self._plain(307, {"Location": self.path.replace(found[1], repo.moved)})
            if repo.error:
                return self._plain(repo.error[0], {"X-Error-Code": repo.error[1]} if repo.error[1] else {})
            if revision not in ("main", "v1", COMMIT):
                return self._plain(404, {"X-Error-Code": "RevisionNotFound"})
            if file not in repo.files:
                return self._plain(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            if file.endswith(".safetensors") and hub.large and host in hub.endpoint:
                return self._plain(302, {"Location": hub.large + self.path, "X-Repo-Commit": COMMIT})
            return self._file(repo.files[file], body=body)

        def _plain(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def _file(self, blob: Blob, *, body: bool) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, end = (int(asked[1]), min(int(asked[2]) + 1, blob.size)) if asked and hub.ranges else (0, blob.size)
            self.send_response(206 if asked and hub.ranges else 200)
            if asked and hub.ranges:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{blob.size}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{sha256(blob.content).hexdigest()}"')
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            if body:
                self._send(blob, start, end)

        def _send(self, blob: Blob, start: int, end: int) -> None:
            for at in range(start, end, 65_536):
                try:
                    self.wfile.write(blob.part(at, min(at + 65_536, end)))
                except OSError:  # the reader had enough
                    return
                hub.sent += min(65_536, end - at)

    return Handler


@contextmanager
def serving(hub: FakeHub, *, large: bool = True) -> Iterator[FakeHub]:
    """The hub on a port of its own; large files under another name of the same machine, which is another host."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    hub.large = f"http://localhost:{server.server_port}" if large else ""
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
