"""Sends live events to whoever listens to a group of the channel layer.

Live events are hints: what matters is in the database first, so an event that cannot be sent is logged and forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine, Mapping
from functools import lru_cache
from typing import Any

from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)

SEND_SECONDS = 2.0


async def asend(group: str, message: Mapping[str, Any]) -> None:
    """Send `message` to every consumer in `group`; its `type` names the consumer's method."""
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        await asyncio.wait_for(layer.group_send(group, message), SEND_SECONDS)
    except Exception:  # whatever the layer's client raises: Redis errors, timeouts
        logger.warning("event not published", extra={"group": group}, exc_info=True)


def wait_sent(sending: Coroutine[Any, Any, None]) -> None:
    """Run `sending` from synchronous code and wait until it is through, so that events keep their order."""
    future = asyncio.run_coroutine_threadsafe(sending, _loop(os.getpid()))
    try:
        future.result(timeout=SEND_SECONDS + 1)
    except TimeoutError:
        logger.warning("event not published in time", extra={"sending": repr(sending)})


@lru_cache(maxsize=1)
def _loop(pid: int) -> asyncio.AbstractEventLoop:
    """One event loop a process, in a thread of its own.

    The layer keeps its connection per loop. A loop made for each call would mean a new connection for each event; one
    per process id, because a forked child inherits the object but not the thread.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name=f"live-events-{pid}", daemon=True).start()
    return loop
