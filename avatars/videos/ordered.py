"""Makes a video that somebody ordered, from what its row says."""

from __future__ import annotations

from avatars.services import open_rungs
from avatars.videos import services
from avatars.videos.pipeline import SceneVoices, make_video
from avatars.videos.spec import VideoSpec
from avatars.videos.work import MadeVideo, Work


def make_ordered(work: Work) -> MadeVideo:
    """Make what the job's row asks for. Raises StageFailed."""
    spec = VideoSpec.model_validate(work.job.order)
    voices = [SceneVoices(open_rungs(project_id=work.job.project_id, rungs=scene.voices)) for scene in spec.scenes]
    made = make_video(spec=spec, voices=voices, folder=services.bench_of(work.job.pk), report=work.report)
    return MadeVideo(made.file, made.thumbnail, made.composed.duration)
