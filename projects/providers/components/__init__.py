"""The LiveKit components that providers build. Importing one loads LiveKit; only processes that talk need that."""
