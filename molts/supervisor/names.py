"""What the parts of a copy are called, in the order in which they are started."""

PART_NAMES = ("redis", "media", "web", "jobs", "clock", "render", "speech", "agent", "avatar")
REDIS, MEDIA, WEB, JOBS, CLOCK, RENDER, SPEECH, AGENT, AVATAR = PART_NAMES
