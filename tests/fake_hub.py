"""A loopback server that speaks the Hub's read endpoints for data sets, and can cut a connection.

What `datasets` asks for (https://huggingface.co/docs/hub/api, huggingface_hub's `hf_api.py` and
`hf_file_system.py`): the repository's info, its tree, paths-info, and files by ranges.
Libraries read HF_ENDPOINT when they are imported, so clients run in processes of their own.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATE = "2024-05-01T00:00:00.000Z"


@dataclass
class FakeHub:
    """One or more data sets: id -> path in the repository -> content.

    Attributes:
        cut_after: bytes of file bodies after which a connection is cut, once for each number.
        refuse: whether every file's body is cut at once from then on.
        asked: what was asked for: method, path, range.
    """

    repositories: Mapping[str, Mapping[str, bytes]]
    cut_after: list[int] = field(default_factory=list)
    refuse: bool = False
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    cuts: int = 0
    sent: int = 0
    url: str = ""

    def files(self, repository: str, under: str = "") -> list[dict[str, Any]]:
        return [
            {
                "type": "file",
                "oid": hashlib.sha1(content).hexdigest(),
                "size": len(content),
                "path": path,
            }
            for path, content in sorted(self.repositories[repository].items())
            if path == under or path.startswith(under and f"{under}/")
        ]

    def folders(self, repository: str, under: str = "") -> list[dict[str, Any]]:
        """The folders below `under` (all levels)."""
        paths = {
            path.rsplit("/", depth)[0]
            for path in self.repositories[repository]
            for depth in range(1, path.count("/") + 1)
        }
        return [
            {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "path": path}
            for path in sorted(paths)
            if path.startswith(under and f"{under}/") or path == under
        ]

    def allowance(self, size: int) -> int:
        """How many of the next `size` bytes may go out before the connection is cut."""
        if self.refuse:
            return 0
        if not self.cut_after or self.sent + size < self.cut_after[0]:
            return size
        return max(0, self.cut_after.pop(0) - self.sent)


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append((self.command, path, self.headers.get("Range", "")))
        for repository in self.hub.repositories:
            api, files = f"/api/datasets/{repository}", f"/datasets/{repository}/resolve/"
            if path.startswith(files):
                return self.file(repository, path.removeprefix(files).partition("/")[2])
            if path == api or path.startswith(f"{api}/"):
                return self.api(repository, path.removeprefix(api).strip("/"), body)
        return self.missing("RepoNotFound")

    def api(self, repository: str, rest: str, body: bytes) -> None:
        verb, _, tail = rest.partition("/")
        if verb in ("", "revision"):
            names = [{"rfilename": file["path"]} for file in self.hub.files(repository)]
            about = {"_id": "0", "id": repository, "private": False, "tags": [], "downloads": 0}
            return self.json(about | {"sha": COMMIT, "lastModified": DATE, "siblings": names})
        under = tail.partition("/")[2]
        known = self.hub.folders(repository, under) + self.hub.files(repository, under)
        if verb == "tree":
            inner = [entry for entry in known if entry["path"] != under]
            if "recursive=true" not in self.path.lower():
                depth = under.count("/") + 1 if under else 0
                inner = [entry for entry in inner if entry["path"].count("/") == depth]
            return self.json(inner) if inner else self.missing("EntryNotFound")
        if verb == "paths-info":
            wanted = set(re.findall(r'[^"\[\],: ]+', body.decode())) | {
                unquote(word.partition("=")[2]) for word in body.decode().split("&")
            }
            return self.json([entry for entry in known if entry["path"] in wanted])
        return self.missing("EntryNotFound")

    def file(self, repository: str, name: str) -> None:
        content = self.hub.repositories[repository].get(name)
        if content is None:
            return self.missing("EntryNotFound")
        start, end, status = 0, len(content), 200
        if match := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, status = int(match[1]), 206
            end = min(int(match[2]) + 1, end) if match[2] else end
        part = content[start:end]
        self.send_response(status)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "HEAD":
            return
        allowed = self.hub.allowance(len(part))
        self.wfile.write(part[:allowed])
        self.wfile.flush()
        self.hub.sent += allowed
        if allowed < len(part):
            self.hub.cuts += 1
            self.close_connection = True
            self.connection.close()

    def json(self, value: Any) -> None:
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def missing(self, code: str) -> None:
        self.reply(404, b"{}", {"X-Error-Code": code, "Content-Type": "application/json"})

    def reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve `hub` on a free port of the loopback; its `url` goes into HF_ENDPOINT."""

    class Bound(Handler):
        pass

    Bound.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
