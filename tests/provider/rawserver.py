"""A raw server on loopback that answers exactly as scripted, down to cut connections."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire; header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int  # the how-manieth connection it came on, from 1


@dataclass
class Exchange:
    """What a step of a script works with."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    server: RawServer
    request: Request | None = None
    head: bytes = b""  # of a request that was waited for before its script was chosen

    async def take_head(self) -> bytes:
        head, self.head = self.head, b""
        return head or await self.reader.readuntil(b"\r\n\r\n")


Step = Callable[[Exchange], Awaitable[None]]


class RawServer:
    """Serves one script after the other, the last one for ever; a script is a list of steps for one request.

    ``connections`` counts those accepted, ``requests`` holds those that were read.
    """

    def __init__(self) -> None:
        self.scripts: list[list[Step]] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.scheme = "http"
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def script(self, *scripts: list[Step]) -> None:
        self.scripts += scripts

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        exchange = Exchange(reader, writer, self.connections, self)
        try:
            while not writer.is_closing():
                for step in self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]:
                    await step(exchange)
                # The next script belongs to the next request, which may come on another connection.
                exchange.head = await exchange.take_head()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def read_request(exchange: Exchange) -> None:
    """Read one whole request and remember it."""
    head = (await exchange.take_head()).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await exchange.reader.readexactly(int(headers.get("content-length", "0")))
    exchange.request = Request(method, target, headers, body, exchange.number)
    exchange.server.requests.append(exchange.request)


async def read_head_only(exchange: Exchange) -> None:
    """Read up to the end of the headers, so that the body is still on its way."""
    await exchange.take_head()


async def close(exchange: Exchange) -> None:
    """Hang up in the ordinary way."""
    exchange.writer.close()


async def reset(exchange: Exchange) -> None:
    """Hang up with a reset."""
    exchange.writer.transport.abort()


async def stall(exchange: Exchange) -> None:
    """Say nothing until the client hangs up."""
    while await exchange.reader.read(65536):
        pass
    exchange.writer.close()


def send(data: bytes) -> Step:
    async def step(exchange: Exchange) -> None:
        exchange.writer.write(data)
        await exchange.writer.drain()

    return step


def raw_answer(
    body: bytes | str | Mapping[str, Any] | list[Any] = b"",
    status: int = 200,
    *,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
    length: int | None = None,
    chunked: bool = False,
) -> bytes:
    """An HTTP answer as bytes. ``length`` lies about the length of the body."""
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    lines = {"Content-Type": content_type, **(headers or {})}
    if chunked:
        lines["Transfer-Encoding"] = "chunked"
        pieces = (data[at : at + 4096] for at in range(0, len(data), 4096))
        data = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        lines["Content-Length"] = str(len(data) if length is None else length)
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode() + data


def answer(*args: Any, **kwargs: Any) -> list[Step]:
    """The script of a well-behaved exchange: read the request, send ``raw_answer(...)``."""
    return [read_request, send(raw_answer(*args, **kwargs))]


@dataclass
class Servers:
    """Starts raw servers and stops them at the end of the test."""

    opened: list[tuple[asyncio.Server, RawServer]] = field(default_factory=list)

    async def start(self, *scripts: list[Step], tls: ssl.SSLContext | None = None) -> RawServer:
        raw = RawServer()
        raw.script(*scripts)
        server = await asyncio.start_server(raw.serve, "127.0.0.1", 0, ssl=tls)
        raw.port = server.sockets[0].getsockname()[1]
        raw.scheme = "https" if tls else "http"
        self.opened.append((server, raw))
        return raw

    async def stop(self) -> None:
        for server, raw in self.opened:
            server.close()
            await raw.stop()


WEBM = b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm" + bytes(600)
MP4_HEAD = (24).to_bytes(4, "big") + b"ftypisom" + bytes(4) + b"isommp42"


def clip(size: int = 3000) -> bytes:
    """The boxes of an MP4 file, ``size`` bytes in all, whose content no two positions share by accident."""
    payload = bytes(index * 31 % 251 for index in range(size - len(MP4_HEAD) - 8))
    return MP4_HEAD + (len(payload) + 8).to_bytes(4, "big") + b"mdat" + payload


def certificate_for(name: str, folder: Path) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key. ``name`` as in ``DNS:example.com``."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", f"/CN={name.partition(':')[2]}", "-addext", f"subjectAltName={name}"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    try:
        subprocess.run([*command, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return certificate, key
