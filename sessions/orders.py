"""What programs and pages want said in a conversation, on its way to the agent.

An order is accepted by being written here, and stays until a job has dealt with it: what one job took and did not come
to, because it was closing or died, the next one finds. Whether an order was carried out is read from the transcript,
whose line has the order's id; so it is done once, whoever else took it before.

    <instance>:orders:<session id>   stream, oldest first; each entry is JSON {"id", "as": "user"|"agent", "text"}
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import redis.asyncio

from molts.beats import client, reachable, redis_key
from molts.errors import Unavailable
from sessions.choices import Role
from sessions.presence import AgentBeat, agent_key

MOST_WAITING = 500
KEPT_MS = 86_400_000
ACCEPT_MS = 1_500  # less than the client waits for an answer
WAIT_MS = 1_000  # less than the job's client waits, and how soon a job that was replaced sees it here
FIRST = "0"

# A Redis that stood still runs what was sent to it once it goes on; whoever sent it was told long ago that it failed.
ACCEPT = """
local now = redis.call('time')
if now[1] * 1000 + now[2] / 1000 > tonumber(ARGV[1]) then return 0 end
redis.call('xadd', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'order', ARGV[2])
redis.call('pexpire', KEYS[1], ARGV[4])
return 1
"""


@dataclass(frozen=True)
class Order:
    """`speaker` is whose words they are. The id is that of the line they become in the transcript."""

    id: str
    speaker: str
    text: str

    @classmethod
    def parse(cls, text: str) -> Order:
        """Raises ValueError for anything else."""
        try:
            stored = json.loads(text)
            order = cls(str(stored["id"]), Role(stored["as"]), str(stored["text"]))
        except (KeyError, TypeError) as error:
            raise ValueError("not an order") from error
        return order

    def __str__(self) -> str:
        stored = asdict(self)
        return json.dumps({"id": stored["id"], "as": str(stored["speaker"]), "text": stored["text"]})


def orders_key(session_id: uuid.UUID) -> str:
    return redis_key("orders", session_id)


def give_order(session_id: uuid.UUID, order: Order) -> None:
    """Keep `order` for the agent of the session. Raises Unavailable; then it is not carried out later either."""
    with reachable():
        seconds, microseconds = client().time()
        until = seconds * 1000 + microseconds // 1000 + ACCEPT_MS
        taken = client().eval(ACCEPT, 1, orders_key(session_id), until, str(order), MOST_WAITING, KEPT_MS)
    if not taken:
        raise Unavailable("Redis was too slow to take it.")


async def next_orders(
    client: redis.asyncio.Redis, session_id: uuid.UUID, *, generation: int, after: str
) -> list[tuple[str, str]] | None:
    """(entry, text of an order) of what came after the entry `after`; waits a moment when there is nothing.

    None: a job of a newer generation beats, and they are for that one.
    """
    found: Any = await client.xread({orders_key(session_id): after}, block=WAIT_MS, count=20)
    beat = await client.get(agent_key(session_id))
    if beat and AgentBeat.parse(beat).generation > generation:
        return None
    streams = found.items() if isinstance(found, dict) else found or ()
    return [(entry, fields.get("order", "")) for _, entries in streams for entry, fields in entries]


async def forget_order(client: redis.asyncio.Redis, session_id: uuid.UUID, entry: str) -> None:
    """It was dealt with: no later job need look at it."""
    await client.xdel(orders_key(session_id), entry)
