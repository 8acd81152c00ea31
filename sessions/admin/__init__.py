"""The admin's pages for room links and for conversations."""

from sessions.admin.conversations import LiveSessionAdmin
from sessions.admin.links import RoomLinkAdmin

__all__ = ["LiveSessionAdmin", "RoomLinkAdmin"]
