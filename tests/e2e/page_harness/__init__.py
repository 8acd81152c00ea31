"""The room page's other side, under a test's control: its HTTP answers, its WebSocket, a real media server, an agent.

`RoomServer` renders the real templates and speaks `sessions.events`; what it says is up to the test, so that states
which a healthy server hardly ever shows (late, lost, full, cut off) can be shown on demand.
"""

from tests.e2e.page_harness.media import MediaServer, ToneAgent, find_media_server
from tests.e2e.page_harness.page import MICROPHONE, chip, kept, lines, notice, talk
from tests.e2e.page_harness.server import RoomServer

__all__ = [
    "MICROPHONE",
    "MediaServer",
    "RoomServer",
    "ToneAgent",
    "chip",
    "find_media_server",
    "kept",
    "lines",
    "notice",
    "talk",
]
