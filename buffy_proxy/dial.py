"""New connections towards origins and proxies: all addresses of a name, the next one tried when one is slow
(RFC 8305), on any event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

import aiohappyeyeballs

P = TypeVar("P", bound=asyncio.BaseProtocol)

NEXT_ADDRESS_S = 0.25
"""RFC 8305 §5: Connection Attempt Delay."""


async def connect(
    protocol: Callable[[], P], host: str, port: int, tls: ssl.SSLContext | None
) -> tuple[asyncio.Transport, P]:
    """Connects, and does TLS for `host` where there is a context. Raises socket.gaierror, other OSErrors and
    ssl.SSLError."""
    loop = asyncio.get_running_loop()
    sock = await aiohappyeyeballs.start_connection(
        await _addresses(loop, host, port), happy_eyeballs_delay=NEXT_ADDRESS_S, interleave=1
    )
    transport, made = await loop.create_connection(
        protocol, sock=sock, ssl=tls, server_hostname=host if tls else None
    )
    return transport, made


async def _addresses(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Any]:
    kind, tcp = socket.SOCK_STREAM, socket.IPPROTO_TCP
    try:  # without the thread that a question to the resolver needs
        return socket.getaddrinfo(host, port, type=kind, proto=tcp, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await loop.getaddrinfo(host, port, type=kind, proto=tcp)
