"""A vendor on loopback that speaks OpenAI's protocol, knows which key is right, and says so in a vendor's own words."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from aiohttp import web

from tests.projects.providers.conftest import FakeVendor

T = TypeVar("T")
RIGHT_KEY = "sk-right-0123456789abcdef"
COMPLAINT = "This key is not one of ours. Keys of this account begin with sk-right"


class KeyedVendor(FakeVendor):
    """It serves whoever sends RIGHT_KEY and refuses everybody else."""

    async def misbehave(self, request: web.Request) -> web.StreamResponse | None:
        self.requests.append((request.path, dict(request.headers)))
        if request.headers.get("Authorization") == f"Bearer {RIGHT_KEY}":
            return None
        return web.json_response({"error": {"message": COMPLAINT, "code": "invalid_api_key"}}, status=401)


class RunningVendor:
    """`with RunningVendor() as vendor:` serves from a thread of its own."""

    def __init__(self) -> None:
        self.fake = KeyedVendor()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._runner = web.AppRunner(self.fake.app(), shutdown_timeout=0.1)
        self.fake.url = f"http://127.0.0.1:{self._call(self._start())}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _start(self) -> int:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)
