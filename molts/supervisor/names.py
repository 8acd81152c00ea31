"""What the parts of a copy are called, in the order in which they are started."""

PART_NAMES = ("redis", "media", "web", "jobs", "clock", "speech", "agent", "avatar")
REDIS, MEDIA, WEB, JOBS, CLOCK, SPEECH, AGENT, AVATAR = PART_NAMES
