"""What a modelled disk is made of: memory behind one queue, served over the NBD protocol on a Unix socket.

``python -m benchmarks.disk_server SOCKET SIZE REQUEST_SECONDS BYTES_PER_SECOND`` serves one client. It is as fast as
it can until SIGUSR1; from then on each request takes its time, one after the other, until SIGUSR2.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import struct
import sys
import time

# https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
_GREETING = b"NBDMAGIC" + b"IHAVEOPT" + struct.pack(">H", 0b11)  # fixed newstyle, without padding
_OPTION = struct.Struct(">8sII")
_OPTION_REPLY = struct.Struct(">QIII")
_OPTION_REPLY_MAGIC = 0x3E889045565A9
_GO, _ABORT = 7, 2
_ACKNOWLEDGED, _INFORMATION, _UNSUPPORTED = 1, 3, 2**31 + 1
_EXPORT = struct.Struct(">HQH")
_HAS_FLAGS_AND_FLUSH = 0b101
_REQUEST = struct.Struct(">IHHQQI")
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
_REPLY = struct.Struct(">IIQ")
_REPLY_MAGIC = 0x67446698
_INVALID = 22


class Queue:
    """One request after the other; times in seconds of any monotonic clock, passed in."""

    def __init__(self, request_seconds: float, bytes_per_second: float) -> None:
        self._request_seconds = request_seconds
        self._bytes_per_second = bytes_per_second
        self._busy_until = 0.0

    def done_at(self, now: float, size: int, *, waited: bool) -> float:
        """When a request of ``size`` bytes is done; ``waited`` if it was there before the one before was done."""
        # What waited begins when the one before was to be done: a sleep that ended late is made up for.
        begin = self._busy_until if waited else now
        self._busy_until = begin + self._request_seconds + size / self._bytes_per_second
        return self._busy_until


def main(path: str, size: int, queue: Queue) -> None:
    """Serve one client until it leaves."""
    slow = False

    def switch(number: int, frame: object) -> None:
        nonlocal slow
        slow = number == signal.SIGUSR1

    signal.signal(signal.SIGUSR1, switch)
    signal.signal(signal.SIGUSR2, switch)
    memory = mmap.mmap(-1, size)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1)
        client = listening.accept()[0]
    with client:
        if not _agree(client, size):
            return
        while True:
            waited = bool(select.select([client], [], [], 0)[0])
            header = _receive(client, _REQUEST.size)
            if header is None:
                return
            _, _, kind, cookie, offset, length = _REQUEST.unpack(header)
            if kind == _DISCONNECT:
                return
            payload = _receive(client, length) if kind == _WRITE else b""
            if payload is None:
                return
            if slow:
                now = time.monotonic()
                time.sleep(max(0.0, queue.done_at(now, length, waited=waited) - now))
            known = kind in (_READ, _WRITE, _FLUSH) and offset + length <= size
            if known and kind == _WRITE:
                memory[offset : offset + length] = payload
            client.sendall(_REPLY.pack(_REPLY_MAGIC, 0 if known else _INVALID, cookie))
            if known and kind == _READ:
                client.sendall(memory[offset : offset + length])


def _agree(client: socket.socket, size: int) -> bool:
    """The handshake: whatever is asked for, there is one export, and nothing beyond the basics."""
    client.sendall(_GREETING)
    _receive(client, 4)
    while (header := _receive(client, _OPTION.size)) is not None:
        _, option, length = _OPTION.unpack(header)
        _receive(client, length)

        def reply(kind: int, data: bytes = b"", option: int = option) -> None:
            client.sendall(_OPTION_REPLY.pack(_OPTION_REPLY_MAGIC, option, kind, len(data)) + data)

        if option == _GO:
            reply(_INFORMATION, _EXPORT.pack(0, size, _HAS_FLAGS_AND_FLUSH))
            reply(_ACKNOWLEDGED)
            return True
        if option == _ABORT:
            return False
        reply(_UNSUPPORTED)
    return False


def _receive(client: socket.socket, size: int) -> bytes | None:
    """Exactly so many bytes; None once the client has left."""
    parts = bytearray()
    while len(parts) < size:
        part = client.recv(size - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)


if __name__ == "__main__":
    os.nice(-10)  # a disk does not wait for a processor
    main(sys.argv[1], int(sys.argv[2]), Queue(float(sys.argv[3]), float(sys.argv[4])))
