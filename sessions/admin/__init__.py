"""The admin's pages for agents with their editor, for room links and for conversations."""

from sessions.admin.agents import AgentAdmin
from sessions.admin.conversations import LiveSessionAdmin
from sessions.admin.links import RoomLinkAdmin

__all__ = ["AgentAdmin", "LiveSessionAdmin", "RoomLinkAdmin"]
