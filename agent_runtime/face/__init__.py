"""The agent's half of a face; it runs in the agent's job.

`link` calls a face and keeps watch over it, and `route` sends the speech to it, or to the room when there is none. The
other half, which makes the picture, is `agent_runtime.avatar`.
"""
