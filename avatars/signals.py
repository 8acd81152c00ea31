"""What others may want to know of agents."""

from __future__ import annotations

from dataclasses import dataclass

from django.dispatch import Signal

agents_leave = Signal()
"""Sent before agents are deleted, outside of any transaction, with their ids as `agent_ids`."""

workers_asked = Signal()
"""Sent to learn which avatar workers serve right now. Receivers return a list of `WorkerState`, or None when it
cannot be known; they raise nothing."""


@dataclass(frozen=True)
class WorkerState:
    """An avatar worker: on which machine, and how many faces it shows of how many it can."""

    host: str
    used: int
    slots: int
