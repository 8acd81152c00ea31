"""Webhooks out: what happened is told to addresses that a project chose, signed, until they have it."""
