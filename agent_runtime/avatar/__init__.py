"""The avatar's half of a face; it runs in the avatar worker (`worker`) and its jobs (`job`).

`publisher` shows what the engine makes of the speech, and `prepare` makes what a face needs before it is called. The
other half, which calls a face and sends it the speech, is `agent_runtime.face`.
"""
