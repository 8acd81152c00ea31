from __future__ import annotations

import asyncio
import threading

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from agent_runtime import db
from agent_runtime.db import DatabaseThread


async def test_it_runs_calls_in_the_order_they_were_asked_for() -> None:
    database = DatabaseThread()
    seen: list[int] = []
    await asyncio.gather(*(database.run(seen.append, number) for number in range(50)))
    database.close()
    assert seen == list(range(50))


async def test_it_never_runs_on_the_loop_and_always_on_the_same_thread() -> None:
    database = DatabaseThread("books")
    threads = {await database.run(threading.current_thread) for _ in range(5)}
    database.close()
    (thread,) = threads
    assert thread is not threading.current_thread()
    assert thread.name.startswith("books")


async def test_it_hands_exceptions_to_whoever_asked_and_goes_on() -> None:
    database = DatabaseThread()
    with pytest.raises(ZeroDivisionError):
        await database.run(lambda: 1 // 0)
    assert await database.run(lambda: 7) == 7
    database.close()


@pytest.mark.django_db(transaction=True)
async def test_it_keeps_its_connection_while_it_is_in_use() -> None:
    database = DatabaseThread()
    assert await database.run(_connected) is await database.run(_connected)
    database.close()


@pytest.mark.django_db(transaction=True)
async def test_it_drops_a_connection_that_was_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "IDLE_SECONDS", 0.0)
    database = DatabaseThread()
    assert await database.run(_connected) is not await database.run(_connected)
    database.close()


@pytest.mark.django_db(transaction=True)
async def test_it_drops_a_connection_in_which_something_failed() -> None:
    database = DatabaseThread()
    first = await database.run(_connected)

    def fail() -> None:
        connection.cursor().execute("SELECT nothing FROM nowhere")

    with pytest.raises(DatabaseError):
        await database.run(fail)
    assert await database.run(_connected) is not first
    assert await database.run(Group.objects.count) == 0
    database.close()


def _connected() -> object:
    """The driver's connection."""
    return _wrapper().connection


def _wrapper() -> BaseDatabaseWrapper:
    connection.ensure_connection()
    return connections["default"]


@pytest.mark.django_db(transaction=True)
async def test_it_finishes_what_it_was_given_and_closes_its_connections() -> None:
    database = DatabaseThread()
    opened = await database.run(_wrapper)
    last = asyncio.create_task(database.run(Group.objects.create, name="last"))
    await asyncio.sleep(0)
    database.close()
    await last
    assert await asyncio.to_thread(Group.objects.filter(name="last").exists)
    await asyncio.to_thread(connections.close_all)
    assert opened.connection is None
    with pytest.raises(RuntimeError):
        await database.run(lambda: 1)
