"""The admin's pages for voices and revisions, and the parts of those for agents and avatars.

The pages of agents and avatars tell of conversations too, so `sessions/admin/` registers them.
"""

from avatars.admin.revisions import AgentRevisionAdmin
from avatars.admin.voices import VoiceAdmin

__all__ = ["AgentRevisionAdmin", "VoiceAdmin"]
