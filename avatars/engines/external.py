"""Engines in an environment of their own: molts speaks with whatever host answers at their address.

The ready adapters are started by the owner in the model's environment: `python -m molts_engine_adapter synctalk
--listen ...` (docs/engines.md). Anything else that speaks the engine protocol may stand in their place.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from avatars.engines.base import (
    EngineHealth,
    EngineOptions,
    Face,
    LipSyncEngine,
    LipSyncStream,
    Need,
    VideoFormat,
)
from avatars.engines.config import engine_config
from avatars.engines.host import launch
from avatars.engines.host.stream import open_host_stream
from molts.errors import BadInput

GPU = Need("an NVIDIA GPU, on this machine or another")
ADAPTER = Need(
    "its adapter, running in the model's own environment; from another machine also an address and a secret",
    ("MOLTS_ENGINE_ADDRESSES", "MOLTS_ENGINE_SECRET"),
)

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{0,64}$")]


class CharacterOptions(EngineOptions):
    character: Name = Field(
        default="",
        title="Character",
        description="Name of the face that was trained or prepared for this engine. Empty: the one that its adapter "
        "was started with.",
    )


class SadTalkerOptions(EngineOptions):
    preprocess: Literal["crop", "resize", "full"] = Field(
        default="full", title="Framing", description="Head only (crop, resize), or the whole picture (full)."
    )
    still: bool = Field(default=True, title="Hold still", description="Less head motion; best with the whole picture.")
    enhance: bool = Field(
        default=False, title="Enhance", description="Sharpen the face with GFPGAN; takes several times longer."
    )
    size: Literal[256, 512] = Field(default=256, title="Detail", description="Pixels at which the face is made.")
    pose_style: int = Field(
        default=0, ge=0, le=45, title="Head motion", description="One of 46 styles of moving the head."
    )
    expression: float = Field(default=1.0, ge=0.1, le=3, title="Expression", description="How strongly the face moves.")


class ExternalEngine(LipSyncEngine):
    """An engine whose host somebody else starts. The variables of its `needs` are read where its adapter runs."""

    has_host = True

    def health(self) -> EngineHealth:
        state = launch.ask(self.key)
        if state is None:
            address = launch.address_of(self.key)
            return EngineHealth(
                False,
                f"nobody answers at {address}",
                f"Start its adapter in its environment: python -m molts_engine_adapter {self.key} --listen {address}",
            )
        return launch.as_health(state)

    def check_face(self, face: Face) -> None:
        self.parse_options(face.options)
        if self.needs_portrait and (face.portrait is None or not face.portrait.is_file()):
            raise BadInput(f"{self.label} needs a portrait.", attr="portrait")

    async def open_stream(self, face: Face, video: VideoFormat) -> LipSyncStream:
        self.check_face(face)
        portrait = await asyncio.to_thread(face.portrait.read_bytes) if face.portrait else b""
        return await open_host_stream(
            launch.address_of(self.key),
            label=self.label,
            video=video,
            key=face.key,
            portrait=portrait,
            options=self.parse_options(face.options).model_dump(mode="json"),
            secret=engine_config().secret,
        )


class SyncTalkEngine(ExternalEngine):
    key = "synctalk"
    label = "SyncTalk"
    description = "A face trained from a video of a few minutes; photorealistic, with head motion."
    options: ClassVar[type[EngineOptions]] = CharacterOptions
    needs = (
        GPU,
        Need("SyncTalk with a face that was trained for hours", ("SYNCTALK_DATA_PATH", "SYNCTALK_WORKSPACE")),
        ADAPTER,
    )


class SyncTalk2DEngine(ExternalEngine):
    key = "synctalk_2d"
    label = "SyncTalk_2D"
    description = "A face trained from a video of a few minutes, quicker than SyncTalk."
    options: ClassVar[type[EngineOptions]] = CharacterOptions
    needs = (GPU, Need("SyncTalk_2D with a trained face", ("SYNCTALK_2D_ROOT", "SYNCTALK_2D_NAME")), ADAPTER)


class DittoEngine(ExternalEngine):
    key = "ditto"
    label = "Ditto"
    description = "Any portrait, with expression and head motion."
    needs_portrait = True
    needs = (
        Need("an NVIDIA GPU with TensorRT, on this machine or another"),
        Need("Ditto's weights, with their configuration for online mode", ("DITTO_DATA_ROOT", "DITTO_CFG_PKL")),
        ADAPTER,
    )


class MuseTalkEngine(ExternalEngine):
    key = "musetalk"
    label = "MuseTalk"
    description = "The mouth of a prepared picture or video, at 256 pixels."
    options: ClassVar[type[EngineOptions]] = CharacterOptions
    needs = (
        GPU,
        Need("MuseTalk's weights", ("MUSETALK_UNET", "MUSETALK_UNET_CONFIG", "MUSETALK_WHISPER")),
        Need(
            "a picture or video that was prepared with its script, or one to prepare at the start",
            ("MUSETALK_AVATAR", "MUSETALK_VIDEO"),
        ),
        ADAPTER,
    )


class SadTalkerEngine(ExternalEngine):
    key = "sadtalker"
    label = "SadTalker"
    description = "Any portrait, with head motion, for videos only: slower than speech on every machine."
    options: ClassVar[type[EngineOptions]] = SadTalkerOptions
    needs_portrait = True
    needs = (GPU, Need("SadTalker's weights", ("SADTALKER_CHECKPOINTS", "SADTALKER_CONFIG")), ADAPTER)
    live = False
