"""Collapsed forwarding across the workers of a server: one asks another for the answer of its flight.

    asking                                       flying
      follow: request ────────────────────────────>
      <──────────────────────────────── TAKEN_UP        at once: the other one lives
      <──────────── head of its answer, or Nothing      when the origin has answered
      <────────── chunk, chunk, …, 0 (or BROKEN)        each after the one before was taken

      land: key id ───────────────────────────────>
      <──────────────────────────────── TAKEN_UP
      <───────────────────────────────── Nothing        when the commit that is under way is done

Each question has a connection of its own, to a socket in the data directory that only its owner may open.
Its end tells the other one, whoever it is: an asker whose client leaves closes it, and so does the kernel for
a worker that dies. A message is its length (4 bytes) and a value in the form of `marshal`: both ends are the
same Python. What came from another worker is never passed on to a third.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import marshal
import socket
import struct
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from buffy_proxy.answer import Answer
from buffy_proxy.core.model import Request
from buffy_proxy.errors import BuffyError, OriginError
from buffy_proxy.flight_table import FlightTable
from buffy_proxy.presence import alive
from buffy_proxy.unix_paths import short_path

log = logging.getLogger("buffy.proxy")

TAKE_UP_S: Final = 2.0
"""A worker that does not even say that it has heard is not waited for."""
READ_AHEAD: Final = 256 * 1024
_LENGTH: Final = struct.Struct("!I")
_TAKEN_UP: Final = b"+"
_BROKEN: Final = 0xFFFFFFFF


class Nothing(enum.Enum):
    """Why another worker gave no answer.

    OVER  what it had under way for this resource is stored by now, if it could be: look again
    UNFIT what it has under way is of no use to this request (Vary, not to be stored, a failure, not whole)
    DEAD  it is gone, or was before its answer's head came
    """

    OVER = 1
    UNFIT = 2
    DEAD = 3


class Flying(Protocol):
    """What a worker does for others; `Cache` is one."""

    async def follow(self, request: Request) -> Answer | Nothing: ...

    async def land(self, key_id: str) -> bool: ...


class Peers:
    """One worker among those of the server whose supervisor is `server_pid`; `table` is theirs."""

    def __init__(self, data_dir: Path, server_pid: int, table: FlightTable) -> None:
        self.table = table
        self._data_dir = data_dir
        self._server_pid = server_pid
        self._server: asyncio.Server | None = None

    def _name(self, number: int) -> str:
        return f"worker-{self._server_pid}-{number}.sock"

    async def listen(self, flying: Flying) -> None:
        """From now on others may ask. Takes the place of a predecessor that was killed. Where the data
        directory takes no sockets, others cannot ask, and fetch for themselves."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        name = self._name(self.table.worker)
        (self._data_dir / name).unlink(missing_ok=True)
        try:
            with short_path(self._data_dir, name) as path:
                sock.bind(path)
            (self._data_dir / name).chmod(0o600)  # nobody can connect before the server listens
        except OSError as error:
            log.warning("workers fetch for themselves: no socket in %s (%s)", self._data_dir, error)
            sock.close()
            return
        self._server = await asyncio.start_server(partial(_serve, flying), sock=sock, backlog=1024)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        (self._data_dir / self._name(self.table.worker)).unlink(missing_ok=True)

    # -- asking -------------------------------------------------------------------------------------------
    async def follow(self, worker: int, request: Request) -> Answer | Nothing:
        """The answer of that worker's flight. Its stream raises OriginError where it ends early."""
        fields = (request.method, request.url, request.fields, request.body, request.group, request.offline)
        return await self._ask(worker, fields)

    async def land(self, worker: int, key_id: str) -> Nothing:
        """Waits for what that worker is just committing for this key. UNFIT: nothing is."""
        answer = await self._ask(worker, key_id)
        assert isinstance(answer, Nothing)
        return answer

    async def _ask(self, worker: int, question: object) -> Answer | Nothing:
        try:
            async with asyncio.timeout(TAKE_UP_S):
                with short_path(self._data_dir, self._name(worker)) as path:
                    reader, writer = await asyncio.open_unix_connection(path, limit=READ_AHEAD)
        except (ConnectionError, FileNotFoundError, TimeoutError):
            return Nothing.DEAD
        except OSError as error:  # no descriptor left: the other one lives, and keeps its claims
            log.warning("cannot ask another worker: %s", error)
            return Nothing.UNFIT
        answer: Answer | Nothing = Nothing.DEAD
        try:
            _send(writer, question)
            async with asyncio.timeout(TAKE_UP_S):
                await reader.readexactly(len(_TAKEN_UP))
            answer = _answer_of(await _receive(reader), reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            if isinstance(answer, Nothing):
                writer.close()
        return answer


def tidy(data_dir: Path) -> None:
    """Removes the sockets of servers that were killed."""
    for file in data_dir.glob("worker-*-*.sock"):
        pid = file.name.split("-")[1]
        if not pid.isdigit() or not alive(int(pid)):
            file.unlink(missing_ok=True)


# -- flying -------------------------------------------------------------------------------------------------


async def _serve(flying: Flying, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    running: list[asyncio.Future[Any]] = []
    try:
        question = await _receive(reader)
        writer.write(_TAKEN_UP)
        running = [
            asyncio.ensure_future(_answer(flying, question, writer)),
            asyncio.ensure_future(reader.read(1)),  # nothing more comes but the end
        ]
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    except (OSError, EOFError):
        pass
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        writer.close()


async def _answer(flying: Flying, question: Any, writer: asyncio.StreamWriter) -> None:
    try:
        if isinstance(question, str):
            landed = await flying.land(question)
            answer: Answer | Nothing = Nothing.OVER if landed else Nothing.UNFIT
        else:
            answer = await flying.follow(Request(*question))
        if isinstance(answer, Nothing):
            _send(writer, answer.value)
            await writer.drain()
            return
        with contextlib.closing(answer):
            _send(writer, _head(answer))
            await _send_content(writer, answer)
    except OSError:
        pass  # who asked is gone
    except Exception:
        log.exception("no answer for another worker")


# -- what goes over the wire --------------------------------------------------------------------------------


def _answer_of(head: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer | Nothing:
    if isinstance(head, int):
        return Nothing(head)
    status, reason, fields, cache_status, content, streams, size, source, resource_id, origin_error = head
    answer = Answer(
        status,
        reason,
        fields,
        cache_status=cache_status,
        content=content,
        stream=_content(reader) if streams else None,
        size=size,
        source=source,
        on_close=writer.close,
    )
    answer.resource_id, answer.origin_error = resource_id, origin_error
    return answer


def _head(answer: Answer) -> tuple[Any, ...]:
    return (
        answer.status,
        answer.reason,
        answer.fields,
        answer.cache_status,
        answer.content,
        answer.stream is not None,
        answer.size,
        answer.source,
        answer.resource_id,
        answer.origin_error,
    )


def _send(writer: asyncio.StreamWriter, value: Any) -> None:
    data = marshal.dumps(value)
    writer.write(_LENGTH.pack(len(data)) + data)


async def _receive(reader: asyncio.StreamReader) -> Any:
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return marshal.loads(await reader.readexactly(size))


async def _send_content(writer: asyncio.StreamWriter, answer: Answer) -> None:
    try:
        if answer.stream is not None:
            async for chunk in answer.stream:
                writer.write(_LENGTH.pack(len(chunk)) + chunk)
                await writer.drain()
            writer.write(_LENGTH.pack(0))
    except BuffyError as error:
        writer.write(_LENGTH.pack(_BROKEN))
        _send(writer, str(error))
    await writer.drain()


async def _content(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    try:
        while True:
            (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            if size == 0:
                return
            if size == _BROKEN:
                raise OriginError("http_response_incomplete", await _receive(reader))
            yield await reader.readexactly(size)
    except (OSError, EOFError) as error:
        raise OriginError("connection_terminated", "the worker that fetched this is gone") from error
