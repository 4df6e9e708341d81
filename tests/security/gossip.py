"""A service that repeats the key it is called with wherever it can, and points to another server wherever it can."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from orbatch_provider.catalog import snapshot
from tests.faults.workshop import clip
from tests.provider.rawserver import raw_answer

CLIMB = "../../../../climbed"  # what its job ids begin with


@dataclass
class Heard:
    """One request: where it went, and what it carried."""

    path: str
    authorization: str | None


@dataclass
class Listener:
    """Whatever is asked of it, it remembers and refuses."""

    url: str = ""
    heard: list[Heard] = field(default_factory=list)

    def reply(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        answer(request, 404, {"error": {"code": 404, "message": "nothing here"}})


@dataclass
class Gossip(Listener):
    """Its jobs do what their prompt says: see ``JOBS``. ``elsewhere``: the other server."""

    elsewhere: str = ""
    polls: dict[str, int] = field(default_factory=dict)

    def reply(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        key = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        path = urlsplit(request.path).path
        if path == "/videos" and body:
            self._submit(request, key, json.loads(body)["prompt"])
        elif path.endswith("/content"):
            self._content(request, key, job_of(path.removesuffix("/content")))
        elif path == "/videos/models":
            answer(request, 200, json.dumps({"data": snapshot().records}, default=str).encode())
        elif path == "/key":
            answer(request, 200, {"data": {"label": key, "usage": 1, "limit": None, "echo": key}}, key)
        elif path.startswith("/videos/"):
            self._poll(request, key, job_of(path))
        else:
            answer(request, 404, refusal(404, key), key)

    def _submit(self, request: BaseHTTPRequestHandler, key: str, prompt: str) -> None:
        match prompt:
            case "refused":
                answer(request, 400, refusal(400, key), key)
            case "failing":
                answer(request, 500, refusal(500, key), key)
            case "unreadable":
                answer(request, 200, f"<html>{key}</html>".encode(), key)
            case "sent away":
                answer(request, 307, {}, key, location=f"{self.elsewhere}/{key}")
            case _:
                job = {"id": f"{CLIMB}/{prompt}", "status": "pending", "echo": key}
                answer(request, 202, job | self._addresses(key), key)

    def _poll(self, request: BaseHTTPRequestHandler, key: str, prompt: str) -> None:
        self.polls[prompt] = self.polls.get(prompt, 0) + 1
        job: dict[str, Any] = {"id": f"{CLIMB}/{prompt}", "status": "completed", "generation_id": f"gen {prompt}"}
        job |= self._addresses(key) | {"usage": {"cost": 0.12, "echo": key}}
        if self.polls[prompt] == 1:
            job["status"] = f"thinking of {key}"
        elif self.polls[prompt] == 2:
            answer(request, 502, refusal(502, key), key)
            return
        elif prompt == "ending":
            job |= {"status": "failed", "error": f"the key {key} is fine, the prompt is not"}
        answer(request, 200, job, key)

    def _content(self, request: BaseHTTPRequestHandler, key: str, prompt: str) -> None:
        match prompt:
            case "moved":
                answer(request, 302, {}, key, location=f"{self.elsewhere}/{key}.mp4")
            case "gone":
                answer(request, 410, refusal(410, key), key)
            case "a page":
                answer(request, 200, f"<html>{key}</html>".encode(), key)
            case _:
                answer(request, 200, clip(), key, kind="video/mp4")

    def _addresses(self, key: str) -> dict[str, Any]:
        return {
            "polling_url": f"{self.elsewhere}/poll?{key}",
            "unsigned_urls": [f"{self.elsewhere}/content"],
            "urls": [f"{self.elsewhere}/signed?{key}"],
        }


# Prompt -> how its job ends.
JOBS: Mapping[str, str] = {
    "refused": "rejected",
    "failing": "uncertain",
    "unreadable": "uncertain",
    "sent away": "uncertain",
    "ending": "failed",
    "moved": "completed",
    "gone": "lost",
    "a page": "completed",
    "fine": "done",
}


def refusal(status: int, key: str) -> dict[str, Any]:
    return {"error": {"code": status, "message": f"Bearer {key}", "metadata": {"raw": key, "reasons": [key]}}}


def job_of(path: str) -> str:
    return unquote(path).rsplit("/", 1)[-1]


def answer(
    request: BaseHTTPRequestHandler,
    status: int,
    body: bytes | Mapping[str, Any],
    key: str = "",
    *,
    location: str | None = None,
    kind: str = "application/json",
) -> None:
    headers = {"X-Echo": key, "Set-Cookie": f"key={key}"} | ({"Location": location} if location else {})
    request.wfile.write(raw_answer(body, status, headers=headers, content_type=kind))


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """The listener as a server on loopback, in threads of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.path = self.path.removeprefix("/api/v1")  # where the service is
            listener.heard.append(Heard(self.path, self.headers.get("Authorization")))
            listener.reply(self, body)

        do_POST = do_CONNECT = do_GET  # noqa: N815 - names of the protocol

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        listener.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield
        server.shutdown()
