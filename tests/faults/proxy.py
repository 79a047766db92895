"""A scriptable TCP proxy: does to connections what networks, and servers at the far end of them, do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from typing import TypeAlias

Filter: TypeAlias = "Callable[[bytes], Iterable[bytes | float]]"
"""Given what came from one side, yields what the other side gets; a float is seconds to wait before going on."""


class Cut(Exception):
    """Raised by a filter: both connections end, by a reset (RST), or as if each side had closed (FIN)."""

    def __init__(self, *, reset: bool) -> None:
        self.reset = reset


class Silence(Exception):
    """Raised by a filter: nothing more goes this way. With ``vanished`` nothing goes either way, the end included."""

    def __init__(self, *, vanished: bool = False) -> None:
        self.vanished = vanished


class Link:
    """One connection through the proxy; ``number`` counts from 1."""

    def __init__(self, number: int, answer: Callable[[bytes], None]) -> None:
        self.number = number
        self.vanished = False
        self.answer = answer
        """Sends bytes to the client that did not come from the server."""


Script: TypeAlias = "Callable[[Link], tuple[Filter, Filter]]"
"""What is done to a connection: the filter towards the server, and the one towards the client."""


def unchanged(data: bytes) -> Iterable[bytes | float]:
    """The filter that does nothing."""
    yield data


class Proxy:
    """Connections to ``target`` that ``script`` disturbs; it may be changed at any time, for connections to come."""

    def __init__(self, target: tuple[str, int], script: Script = lambda link: (unchanged, unchanged)) -> None:
        self.script = script
        self.connections = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Proxy:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, sock=self._listener), self._loop).result()
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._listener.close()
        self._loop.close()

    def let_go(self) -> None:
        """End all connections that there are."""
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result()

    async def _end_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        link = Link(self.connections, to_client.write)
        writers = [to_client]
        reset = True
        ways: list[asyncio.Task[None]] = []
        try:
            up, down = self.script(link)
            from_server, to_server = await asyncio.open_connection(*self._target)
            writers.append(to_server)
            ways = [
                asyncio.ensure_future(self._pass(link, from_client, to_server, up)),
                asyncio.ensure_future(self._pass(link, from_server, to_client, down)),
            ]
            await asyncio.gather(*ways)
            reset = False
        except Cut as cut:
            reset = cut.reset
        except (OSError, asyncio.CancelledError):
            pass  # a side has gone, or the proxy ends
        finally:
            for way in ways:
                way.cancel()
            for writer in writers:
                _end(writer, reset)
            self._tasks.discard(task)

    @staticmethod
    async def _pass(link: Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter, passed: Filter) -> None:
        while data := await source.read(1 << 16):
            try:
                for piece in passed(data) if not link.vanished else ():
                    if isinstance(piece, float):
                        await asyncio.sleep(piece)
                    elif not link.vanished:
                        sink.write(piece)
                        await sink.drain()
            except Silence as silence:
                link.vanished = link.vanished or silence.vanished
                while await source.read(1 << 16):
                    pass
                break
        if link.vanished:
            await asyncio.get_running_loop().create_future()  # until the proxy lets go
        with contextlib.suppress(OSError):
            sink.write_eof()


def _end(writer: asyncio.StreamWriter, reset: bool) -> None:
    if not reset:
        writer.close()
        return
    connected = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def slowly(data: bytes, rate: float) -> Iterable[bytes | float]:
    """``data`` at ``rate`` bytes per second."""
    step = max(int(rate / 20), 1)
    for start in range(0, len(data), step):
        yield data[start : start + step]
        yield step / rate


def flipped(data: bytes, position: int) -> bytes:
    """``data`` with one bit of the byte at ``position`` inverted."""
    changed = bytearray(data)
    changed[position] ^= 0x01
    return bytes(changed)
