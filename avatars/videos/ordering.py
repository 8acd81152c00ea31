"""From what is asked for to the spec of a video: the agent as it is now, with the chain of voices that speaks."""

from __future__ import annotations

from collections.abc import Sequence

from avatars.engines import ENGINES
from avatars.models import Agent, Avatar, Voice
from avatars.services import resolve_pipeline, snapshot_agent, snapshot_avatar, snapshot_voice
from avatars.snapshots import AgentSnapshot, AvatarSnapshot, VoiceSnapshot
from avatars.videos.spec import NO_PAUSE, PAUSE, Scene, ScriptPause, VideoSpec, frame_size
from molts.errors import BadInput
from molts.text import clean_text
from projects.providers.base import Kind
from projects.providers.shared.sentences import spoken_length

MAX_SCRIPT = 10_000
"""Characters of one scene: about ten minutes of speech."""
MOST_SCENES = 20
QUICKEST_PACE = 30.0
"""Letters in a second, as `spoken_length` counts them."""


def scene_of(*, agent: Agent, script: str, avatar: Avatar | None = None, voice: Voice | None = None) -> Scene:
    """`plan_scene` with all of them as they are now."""
    return plan_scene(
        agent=snapshot_agent(agent),
        script=script,
        avatar=snapshot_avatar(avatar) if avatar else None,
        voice=snapshot_voice(voice) if voice else None,
    )


def plan_scene(
    *,
    agent: AgentSnapshot,
    script: str,
    avatar: AvatarSnapshot | None = None,
    voice: VoiceSnapshot | None = None,
) -> Scene:
    """The agent saying the script, with another face or voice where they are given.

    Raises BadInput for a script without words, and for a face that no engine of ours moves.
    """
    text = clean_text(script)
    if not PAUSE.sub("", text).strip():
        raise BadInput("Write what is to be said.", attr="script")
    if len(text) > MAX_SCRIPT:
        raise BadInput(f"The script is too long: at most {MAX_SCRIPT} characters.", attr="script")
    if NO_PAUSE.search(PAUSE.sub("", text)):
        raise BadInput('Write a pause as <break time="1.5s"/>, in seconds or ms.', attr="script")
    face = avatar or agent.avatar
    if face is None:
        raise BadInput("This agent has no face: give it one, or name an avatar.", attr="avatar")
    if face.engine not in ENGINES:
        raise BadInput(
            f"{face.name} cannot be in a video: it is a still picture, or a vendor renders it. Name an avatar that an "
            "engine of this server moves.",
            attr="avatar",
        )
    speaker = agent.model_copy(update={"voice": voice}) if voice else agent
    return Scene(script=text, language=agent.language, voices=resolve_pipeline(snapshot=speaker)[Kind.TTS], avatar=face)


def shortest_seconds(scenes: Sequence[Scene]) -> float:
    """What the quickest voice needs for it: whatever is longer would fail after it was spoken."""
    parts = [part for scene in scenes for part in scene.parts()]
    return sum(part.seconds if isinstance(part, ScriptPause) else spoken_length(part) / QUICKEST_PACE for part in parts)


def plan_video(
    *, scenes: Sequence[Scene], resolution: str = "512p", aspect: str = "1:1", fps: int = 25, max_seconds: float = 600.0
) -> VideoSpec:
    """The video of these scenes."""
    if len(scenes) > MOST_SCENES:
        raise BadInput(f"These are too many scenes: at most {MOST_SCENES}.", attr="scenes")
    if shortest_seconds(scenes) > max_seconds:
        raise BadInput(
            f"This is longer than {max_seconds:g} s when it is spoken. Make several videos of it.",
            attr="scenes" if len(scenes) > 1 else "script",
        )
    width, height = frame_size(resolution, aspect)
    return VideoSpec.model_validate(
        {"scenes": tuple(scenes), "width": width, "height": height, "fps": fps, "max_seconds": max_seconds}
    )
