"""S3's requests as they pass a proxy: counts them by what they ask for, and disturbs one, or all from one on."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable
from urllib.parse import parse_qs, unquote, urlsplit

from tests.faults.faulty_repository import Call, kind_of
from tests.faults.proxy import Cut, Filter, Link, Silence, flipped, slowly

_STATUSES = {
    "404": ("Not Found", "NoSuchKey"),
    "408": ("Request Timeout", "RequestTimeout"),
    "412": ("Precondition Failed", "PreconditionFailed"),
    "429": ("Too Many Requests", "TooManyRequests"),
    "500": ("Internal Server Error", "InternalError"),
    "503": ("Slow Down", "SlowDown"),
}
ACTIONS = (
    *("408", "429", "500", "503", "429 storm", "500 storm", "503 storm"),
    *("reset", "half a request", "hang", "hang on", "corrupt request", "delay"),
    *("lost answer", "half an answer", "half an answer, always", "silent answer", "slow answer", "corrupt answer"),
    *("done, says 412", "done, says 500", "not done, says 200", "stale"),
)
"""What can be done at a request. A storm, and what hangs on, lasts for all that follow."""
_LASTING = ("429 storm", "500 storm", "503 storm", "hang on", "half an answer, always")
_CHANGES = ("put", "put if absent", "upload part", "complete upload", "delete", "delete many")
_BODIES = ("put", "put if absent", "upload part")
_STALE = ("get", "list", "list uploads")
_SLOW_RATE = 2_000_000.0


def allows(call: Call, action: str) -> bool:
    """Whether that can happen to such a request."""
    if action == "done, says 412":
        return call.method == "put if absent"
    if action == "not done, says 200":
        return call.method in _CHANGES
    if action == "stale":
        return call.method in _STALE
    if action in ("half a request", "corrupt request"):
        return call.method in _BODIES
    if "half an answer" in action or action in ("slow answer", "corrupt answer"):
        return call.method in ("get", "list")
    return True


class HttpWire:
    """Counts what passes, and does ``action`` at ``call``. ``reached`` says whether it came to that."""

    def __init__(self, call: Call | None = None, action: str = "", seed: int = 0) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()
        self.reached = False
        self.call, self.action = call, action
        self.random = random.Random(seed)

    def __call__(self, link: Link) -> tuple[Filter, Filter]:
        """The script for :class:`~tests.faults.proxy.Proxy`."""
        connection = _Connection(self, link)
        return connection.from_client, connection.from_server

    def hits(self, method: str, kind: str) -> bool:
        """Count a request, and say whether it is one to disturb."""
        self.seen[method, kind] += 1
        hit = not self.reached and self.call == Call(method, kind, self.seen[method, kind])
        lasting = self.reached and self.action in _LASTING
        self.reached = self.reached or hit
        return hit or (lasting and (self.call is not None and allows(Call(method, kind), self.action)))


class _Connection:
    def __init__(self, wire: HttpWire, link: Link) -> None:
        self._wire, self._link = wire, link
        self._head = b""
        self._left = 0  # of the body of the request that is under way
        self._withheld = False
        self._answer_hit = False
        self._answer_head = b""
        self._answer_left: int | None = None
        self._method = ""

    def from_client(self, data: bytes) -> Iterable[bytes | float]:
        while data:
            if self._left:
                body, data = data[: self._left], data[self._left :]
                self._left -= len(body)
                yield from self._body(body)
                continue
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data, self._head = self._head[: end + 4], self._head[end + 4 :], b""
            yield from self._begin(head)

    def _begin(self, head: bytes) -> Iterable[bytes | float]:
        self._method, kind = request_of(head)
        hit = self._wire.hits(self._method, kind)
        self._left = _length(head)
        self._size = self._left
        self._answer_hit = self._withheld = False
        if not hit:
            yield head
            return
        action = self._wire.action
        if action == "reset":
            raise Cut(reset=True)
        if action in ("hang", "hang on"):
            raise Silence
        if action == "delay":
            yield 0.7
        self._withheld = action.split()[0] in _STATUSES or action in ("not done, says 200", "stale")
        if not self._withheld:
            self._answer_hit = True
            yield head
        elif not self._left or b"\r\nexpect:" in head.lower():
            self._say()

    def _body(self, body: bytes) -> Iterable[bytes | float]:
        if self._withheld:
            if not self._left:
                self._say()
            return
        if self._answer_hit and self._wire.action == "half a request":
            yield body[: len(body) // 2]
            raise Cut(reset=False)
        if self._answer_hit and self._wire.action == "corrupt request" and self._left + len(body) == self._size:
            body = flipped(body, self._wire.random.randrange(len(body)))
        yield body

    def _say(self) -> None:
        action = self._wire.action
        if action == "stale" and self._method == "get":
            self._answer("404")
        elif action == "not done, says 200" and self._method == "complete upload":
            self._answer("200", b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")
        elif action == "not done, says 200" and self._method == "delete many":
            self._answer("200", b"<DeleteResult></DeleteResult>")
        elif action == "stale":
            name = "ListBucketResult" if self._method == "list" else "ListMultipartUploadsResult"
            self._answer("200", f"<{name}><IsTruncated>false</IsTruncated></{name}>".encode())
        elif action == "not done, says 200":
            self._answer("204" if self._method == "delete" else "200")
        else:
            self._answer(action.split()[0])
        raise Cut(reset=False)

    def _answer(self, status: str, body: bytes = b"") -> None:
        reason, code = _STATUSES.get(status, ("OK", ""))
        if code:
            body = f"<Error><Code>{code}</Code><Message>{reason}</Message></Error>".encode()
        head = f'HTTP/1.1 {status} {reason}\r\nETag: "0"\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n'
        self._link.answer(head.encode() + body)

    def from_server(self, data: bytes) -> Iterable[bytes | float]:
        action = self._wire.action
        if not self._answer_hit or data.startswith(b"HTTP/1.1 100"):
            yield data
        elif action == "lost answer":
            raise Cut(reset=True)
        elif action == "silent answer":
            raise Silence
        elif action in ("done, says 412", "done, says 500"):
            self._answer(action[-3:])
            raise Cut(reset=False)
        elif action == "slow answer":
            yield from slowly(data, _SLOW_RATE)
        elif action == "corrupt answer" or action.startswith("half an answer"):
            yield from self._damaged(data)
        else:
            yield data

    def _damaged(self, data: bytes) -> Iterable[bytes | float]:
        if self._answer_left is None:
            self._answer_head += data
            end = self._answer_head.find(b"\r\n\r\n")
            if end < 0:
                return
            head, data, self._answer_head = self._answer_head[: end + 4], self._answer_head[end + 4 :], b""
            size = _length(head)
            self._answer_left = (
                size // 2 if self._wire.action != "corrupt answer" else self._wire.random.randrange(size or 1)
            )
            yield head
        here, self._answer_left = self._answer_left, self._answer_left - len(data)
        if here < 0 or here >= len(data):
            yield data
        elif self._wire.action == "corrupt answer":
            yield flipped(data, here)
        else:
            yield data[:here]
            raise Cut(reset=False)
        if self._answer_left <= 0:
            self._answer_hit, self._answer_left = False, None


def request_of(head: bytes) -> tuple[str, str]:
    """What a request asks for, in the words of :class:`Call`: method and kind of key."""
    line, _, headers = head.decode("latin-1").partition("\r\n")
    verb, target, _ = line.split(" ", 2)
    url = urlsplit(target)
    asked = parse_qs(url.query, keep_blank_values=True)
    key = unquote(url.path).lstrip("/").partition("/")[2]
    if "list-type" in asked or (verb == "GET" and "uploads" in asked):
        return "list" if "list-type" in asked else "list uploads", kind_of(asked.get("prefix", [""])[0])
    if "delete" in asked:
        return "delete many", ""
    if "object-lock" in asked:
        return "object lock", ""
    if "uploads" in asked or "uploadId" in asked:
        name = {"PUT": "upload part", "DELETE": "abort upload"}.get(verb, "complete upload")
        return "begin upload" if "uploads" in asked else name, kind_of(key)
    conditional = verb == "PUT" and re.search(r"(?i)\r?\nif-none-match:", "\r\n" + headers)
    return verb.lower() + (" if absent" if conditional else ""), kind_of(key)


def _length(head: bytes) -> int:
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(found[1]) if found else 0
