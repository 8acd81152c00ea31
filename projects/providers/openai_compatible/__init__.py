"""Servers that speak OpenAI's protocol. A vendor of them is a class that derives from `provider.OpenAICompatible`."""
