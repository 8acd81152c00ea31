"""Faces in conversations, in two halves that run in two workers.

In the agent's job `link` calls a face and keeps watch over it, and `route` sends the speech to it, or to the room when
there is none. In the avatar's job (`worker`, `job`) `publisher` shows what the engine makes of the speech.
"""
