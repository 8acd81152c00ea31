"""The application behind the front door, with two doors of the test's own, and with patience as short as it is told."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from molts import asgi, front_door

for _name, _value in json.loads(os.environ.get("FRONT_DOOR", "{}")).items():
    assert hasattr(front_door, _name), _name
    setattr(front_door, _name, _value)


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket" and scope["path"] == "/echo":
        await _echo(receive, send)
    elif scope["type"] == "http" and scope["path"] == "/long":
        await _answer_at_length(send)
    else:
        await asgi.application(scope, receive, send)


async def _echo(receive: Any, send: Any) -> None:
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "websocket.send", "text": message["text"]})


async def _answer_at_length(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(400):
        await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"", "more_body": False})
