"""The Supertonic voice: `provider` describes it, `weights` fetches them, `voice` is the engine, `tts` what speaks."""
