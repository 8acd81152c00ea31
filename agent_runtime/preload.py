"""What every conversation needs, done once: LiveKit's fork server loads this module and its job processes share it.

Imports and tables only. Nothing here may start a thread or open a connection: neither survives the fork.
"""

from importlib import import_module
from pkgutil import walk_packages

import numpy  # noqa: F401
from livekit.agents.tokenize import basic

import agent_runtime.entrypoint  # noqa: F401 - sets Django up
from projects import providers
from projects.providers import PROVIDERS, get_provider
from projects.providers.base import PIPELINE

for _key in PROVIDERS:
    for _library in get_provider(_key).libraries():
        import_module(_library)
for _module in walk_packages(providers.__path__, f"{providers.__name__}."):
    _home, _, _part = _module.name.rpartition(".")
    if _part in PIPELINE or _home == f"{providers.__name__}.shared":  # the parts that a conversation is built from
        import_module(_module.name)
basic.hyphenate_word("preloading")  # builds its table, which would hold up the first answer's words
