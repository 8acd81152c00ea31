"""Whisper on this machine: what hears in a conversation, and its side of the speech server (`agent_runtime/speech/`).

`provider` describes it, `weights` fetches models, `model` loads them. `stt` hears in a conversation, at the server by
`link` and `protocol`. `state` is what the server says of itself.
"""
