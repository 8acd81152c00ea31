"""The offline recogniser: `provider` describes it, `stt` hears in a conversation, `child` is the decoder's process."""
