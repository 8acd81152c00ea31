"""What others may want to know of agents."""

from __future__ import annotations

from django.dispatch import Signal

agents_leave = Signal()
"""Sent before agents are deleted, outside of any transaction, with their ids as `agent_ids`."""
