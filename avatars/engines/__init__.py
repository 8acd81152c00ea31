"""The engines that molts knows: what moves a face.

One dict of dotted paths is the whole list; an engine's module is imported when it is first asked for. Faces of hosted
services are not here: they are providers of kind avatar, since a vendor renders and publishes them.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from avatars.engines.base import LipSyncEngine
from molts.errors import BadConfiguration

STILL = "still"
"""A picture that does not move: no engine, no avatar worker."""

ENGINES: dict[str, str] = {
    "puppet": "avatars.engines.puppet.PuppetEngine",
    "portrait": "avatars.engines.portrait.PortraitEngine",
    "wav2lip": "avatars.engines.wav2lip.Wav2LipEngine",
    # in an environment of their own, through the engine host's protocol
    "synctalk": "avatars.engines.external.SyncTalkEngine",
    "synctalk_2d": "avatars.engines.external.SyncTalk2DEngine",
    "ditto": "avatars.engines.external.DittoEngine",
    "musetalk": "avatars.engines.external.MuseTalkEngine",
    "sadtalker": "avatars.engines.external.SadTalkerEngine",
}


@cache
def get_engine(key: str) -> LipSyncEngine:
    """Return the engine registered under `key`. Raises BadConfiguration when there is none."""
    try:
        dotted_path = ENGINES[key]
    except KeyError:
        known = ", ".join(sorted(ENGINES))
        raise BadConfiguration(f"There is no engine {key!r}. Known engines: {known}.") from None
    module_name, class_name = dotted_path.rsplit(".", 1)
    engine: LipSyncEngine = getattr(import_module(module_name), class_name)()
    return engine
