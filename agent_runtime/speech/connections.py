"""HTTP connections to the speech server: how many there may be, and how long each may take for nothing.

uvicorn would wait for ever for the head of a request, keep one of any size in memory, and open as many sockets as
anybody likes. Connections through a socket of this machine are not counted, nor those that became a stream: the
conversations come in even while strangers knock.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
HEAD_BYTES = 32_768  # of a request line and its headers
AT_MOST, FROM_ONE_ADDRESS_AT_MOST = 500, 300


class BoundedHTTP(H11Protocol):
    """h11 and not httptools: that one keeps a head of any size."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None and self._is_one_too_many():
            transport.abort()
            return
        self.loop.call_later(HEAD_SECONDS, self._end_if_idle, transport, None)

    def _is_one_too_many(self) -> bool:
        """Counts what is not yet, or never will be, a stream."""
        others = [other.client[0] for other in self.connections if isinstance(other, BoundedHTTP) and other.client]
        return len(others) > AT_MOST or (
            self.client is not None and others.count(self.client[0]) > FROM_ONE_ADDRESS_AT_MOST
        )

    def _end_if_idle(self, transport: asyncio.Transport, last: Any) -> None:
        """Hang up when no request has come since the `last` one was answered."""
        if transport.is_closing() or transport.get_protocol() is not self:  # it became a WebSocket
            return
        if self.cycle is last and (last is None or self.cycle.response_complete):
            transport.close()
        else:
            self.loop.call_later(HEAD_SECONDS, self._end_if_idle, transport, self.cycle)
