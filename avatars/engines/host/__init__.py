"""The client's side of engine hosts: a stream whose frames another process makes, and the start of our own host.

The host's own side is `avatars/engines/adapters/molts_engine_adapter`, which runs in other environments too.
"""
