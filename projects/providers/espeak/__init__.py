"""The espeak-ng voice: `provider` describes it, `program` is the command it runs, `tts` speaks in a conversation."""
