"""Requests to the stand-in: their bodies, the answers, the faults, and the storage of large files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote

from stand_in import Refusal, StandIn, sha256


class Handler(BaseHTTPRequestHandler):
    """Bodies, answers and faults."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> StandIn:
        return self.server.hub

    def log_message(self, *_) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _all_methods(self) -> None:
        self.body = None
        self.fault = None
        path, _, _ = self.path.partition("?")
        request = f"{self.command} {unquote(path)}"
        with self.hub.lock:
            self.hub.requests.append(request)
            fault = next((fault for fault in self.hub.faults if fault.strikes(request)), None)
        if fault is not None and fault.after_bytes is None:
            if fault.status is None:
                return self._break()
            self._read()
            return self._send_refusal(Refusal(fault.status, f"out of order ({fault.status})"))
        self.fault = fault
        try:
            self.respond()
        except Refusal as refusal:
            self._read()
            self._send_refusal(refusal)

    do_GET = do_HEAD = do_POST = do_PUT = _all_methods

    def respond(self) -> None:
        raise NotImplementedError

    def _break(self) -> None:
        self.close_connection = True
        self.connection.close()
        raise ConnectionAbortedError("a fault of the stand-in")

    def _allowed_bytes(self, wanted: int) -> int:
        """How much of `wanted` passes before the fault of this request breaks the connection."""
        if self.fault is None or (self.fault.times is not None and self.fault.hits >= self.fault.times):
            return wanted
        with self.hub.lock:
            allowed = max(0, min(wanted, self.fault.after_bytes - self.fault.bytes))
            self.fault.bytes += allowed
            self.fault.hits += allowed < wanted
        return allowed

    def _read(self) -> bytes:
        if self.body is None:
            length = int(self.headers.get("Content-Length", 0))
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                self.body = b"".join(self._chunks())
            else:
                allowed = self._allowed_bytes(length)
                self.body = self.rfile.read(allowed)
                if allowed < length:
                    self._break()
        return self.body

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            if self._allowed_bytes(size) < size:
                self._break()
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def send(self, content: bytes, status: int = 200, **headers: str) -> None:
        self._read()  # what is left of the request would be taken for the next one
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            allowed = self._allowed_bytes(len(content))
            self.wfile.write(content[:allowed])
            if allowed < len(content):
                self.wfile.flush()
                self._break()

    def send_json(self, value: object, status: int = 200, **headers: str) -> None:
        self.send(json.dumps(value).encode(), status, Content_Type="application/json", **headers)

    def _send_refusal(self, refusal: Refusal) -> None:
        headers = {"X-Error-Message": str(refusal)}
        if refusal.code:
            headers["X-Error-Code"] = refusal.code
        if refusal.commit:
            headers["X-Repo-Commit"] = refusal.commit
        self.send_json({"error": str(refusal)}, refusal.status, **headers)

    def send_file(self, content: bytes, **headers: str) -> None:
        """A file, or the range of it that is asked for."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return self.send(content, Accept_Ranges="bytes", **headers)
        self.hub.ranges.append(wanted[0])
        start, stop = int(wanted[1]), int(wanted[2] or len(content) - 1) + 1
        span = f"bytes {start}-{stop - 1}/{len(content)}"
        self.send(content[start:stop], 206, Content_Range=span, **headers)


class StorageHandler(Handler):
    """Where large files lie, by their SHA-256, for whoever was given the address."""

    def respond(self) -> None:
        if "Authorization" in self.headers:
            self.hub.storage_tokens.append(self.headers["Authorization"])
        oid = self.path.rpartition("/")[2]
        if self.command == "PUT":
            content = self._read()
            if sha256(content) != oid:
                raise Refusal(400, "BadDigest")
            self.hub.stored[oid] = content
            return self.send(b"", ETag=f'"{oid}"')
        if oid not in self.hub.stored:
            raise Refusal(404, "NoSuchKey")
        self.send_file(self.hub.stored[oid], ETag=f'"{oid}"')
