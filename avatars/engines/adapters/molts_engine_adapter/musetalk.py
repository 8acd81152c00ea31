"""MuseTalk (1.5 and 1.0): the `Avatar` of its realtime script prepares a face (cycles of frames, boxes, latents and
masks); its U-Net and VAE make the frames of all conversations in one call.

Facts, from scripts/realtime_inference.py: the script's parts live in its module as names (vae, unet, pe, whisper,
audio_processor, fp, device, weight_dtype, timesteps, args); `audio_processor.get_audio_feature(file)` and
`get_whisper_chunk(...)` give (frames, 50, 384) for a sound file, `pe` and `unet.model` take them with a latent of the
cycle, `vae.decode_latents` gives BGR faces, `get_image_blending` pastes them.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import os
import re
import tempfile
import wave
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .model import SAMPLE_RATE, Face, Model, ModelError, Session, Video
from .pictures import check

FRAME = 640
PIECE = 8  # frames of one job
BEFORE, AFTER = 10, 5  # frames of sound that the encoder is given around them


class MuseTalk(Model):
    name = "musetalk"
    label = "MuseTalk"
    lookahead = AFTER / 25 + PIECE / 25
    batch = 4
    frames_per_job = PIECE
    environment = {
        "version": "MUSETALK_VERSION",
        "unet_model_path": "MUSETALK_UNET",
        "unet_config": "MUSETALK_UNET_CONFIG",
        "whisper_dir": "MUSETALK_WHISPER",
        "avatar": "MUSETALK_AVATAR",
        "video_path": "MUSETALK_VIDEO",
        "bbox_shift": "MUSETALK_BBOX_SHIFT",
    }
    defaults: Mapping[str, str] = {
        "version": "v15",
        "unet_model_path": "./models/musetalkV15/unet.pth",
        "unet_config": "./models/musetalkV15/musetalk.json",
        "whisper_dir": "./models/whisper",
        "avatar": "",
        "video_path": "",
        "bbox_shift": "0",
        "module": "scripts.realtime_inference",
    }

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(settings)
        self._script: Any = None
        self._torch: Any = None
        self._avatars: dict[str, Any] = {}

    def load(self) -> None:
        values = self.settings
        try:
            torch = self._torch = importlib.import_module("torch")
            script = self._script = importlib.import_module(values["module"])
            parts = importlib.import_module("musetalk.utils.utils")
            processor = importlib.import_module("musetalk.utils.audio_processor").AudioProcessor
            whisper_kind = importlib.import_module("transformers").WhisperModel
            parsing = importlib.import_module("musetalk.utils.face_parsing").FaceParsing
        except (ImportError, AttributeError) as error:
            raise ModelError(
                f"MuseTalk was not found ({error}): start this in MuseTalk's folder, with its Python.", "missing"
            ) from error
        for setting, variable in (("unet_model_path", "MUSETALK_UNET"), ("whisper_dir", "MUSETALK_WHISPER")):
            if not os.path.exists(values[setting]):
                raise ModelError(f"There is no {values[setting]}: set {variable}.", "missing")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        vae, unet, pe = parts.load_all_model(
            unet_model_path=values["unet_model_path"],
            vae_type="sd-vae",
            unet_config=values["unet_config"],
            device=device,
        )
        pe = pe.half().to(device)
        vae.vae = vae.vae.half().to(device)
        unet.model = unet.model.half().to(device)
        whisper = whisper_kind.from_pretrained(values["whisper_dir"])
        whisper = whisper.to(device=device, dtype=unet.model.dtype).eval()
        whisper.requires_grad_(False)
        # The names that the script sets when it is run, and that its Avatar reads.
        vars(script).update(
            vae=vae,
            unet=unet,
            pe=pe,
            device=device,
            whisper=whisper,
            weight_dtype=unet.model.dtype,
            timesteps=torch.tensor([0], device=device),
            audio_processor=processor(feature_extractor_path=values["whisper_dir"]),
            fp=parsing(left_cheek_width=90, right_cheek_width=90) if values["version"] == "v15" else parsing(),
            args=argparse.Namespace(
                version=values["version"],
                extra_margin=10,
                parsing_mode="jaw",
                audio_padding_length_left=2,
                audio_padding_length_right=2,
                skip_save_images=True,
            ),
        )
        if values["avatar"]:
            self.avatar(values["avatar"])

    def avatar(self, name: str) -> Any:
        """A face that MuseTalk has prepared, loaded once; with MUSETALK_VIDEO, the default one is prepared here."""
        if name not in self._avatars:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
                raise ModelError(f"{name!r} is no name of an avatar.", "bad_face")
            video = self.settings["video_path"] if name == self.settings["avatar"] else ""
            base = "./results/v15/avatars/" if self.settings["version"] == "v15" else "./results/avatars/"
            there = os.path.isdir(base + name)
            if not there and not video:
                raise ModelError(
                    f"MuseTalk has no avatar {name!r}: prepare it with scripts/realtime_inference.py, or set "
                    "MUSETALK_AVATAR and MUSETALK_VIDEO.",
                    "bad_face",
                )
            try:
                # It asks on the terminal when it is to prepare what is there.
                self._avatars[name] = self._script.Avatar(
                    avatar_id=name,
                    video_path=video,
                    bbox_shift=0 if self.settings["version"] == "v15" else int(self.settings["bbox_shift"]),
                    batch_size=self.batch * PIECE,
                    preparation=not there,
                )
            except SystemExit as error:
                raise ModelError(
                    f"MuseTalk could not use the avatar {name!r}; its log says why.", "bad_face"
                ) from error
        return self._avatars[name]

    def open(self, face: Face, video: Video) -> Session:
        if video.fps != 25:
            raise ModelError(f"MuseTalk makes 25 frames a second here, {video.fps:.1f} were asked for.")
        name = str(face.options.get("character") or "") or self.settings["avatar"]
        if not name:
            raise ModelError("Name a prepared avatar: the face's option `character`, or MUSETALK_AVATAR.", "bad_face")
        return MuseTalkSession(self.avatar(name))

    def render(self, jobs: Sequence[tuple[Session, Any]]) -> list[Sequence[Any]]:
        torch, script = self._torch, self._script
        with torch.no_grad():
            features = [self._features(*job) for _, job in jobs]
            latents = []
            for (session, job), feature in zip(jobs, features):
                assert isinstance(session, MuseTalkSession)
                cycle = session.avatar.input_latent_list_cycle
                latents += [cycle[(job[3] + n) % len(cycle)] for n in range(len(feature))]
            sound = script.pe(torch.cat(features).to(script.device))
            latent = torch.cat(latents).to(device=script.device, dtype=script.unet.model.dtype)
            made = script.unet.model(latent, script.timesteps, encoder_hidden_states=sound).sample
            faces = script.vae.decode_latents(made.to(device=script.device, dtype=script.vae.vae.dtype))
        results: list[Sequence[Any]] = []
        done = 0
        for (session, job), feature in zip(jobs, features):
            assert isinstance(session, MuseTalkSession)
            part = faces[done : done + len(feature)]
            results.append([self._paste(session.avatar, job[3] + n, face) for n, face in enumerate(part)])
            done += len(feature)
        return results

    def _features(self, sound: Any, first: int, count: int, _: int) -> Any:
        """(count, 50, 384): of the frames from `first` on in this piece of sound."""
        script = self._script
        with tempfile.NamedTemporaryFile(suffix=".wav", prefix="molts-musetalk-") as file:
            with wave.open(file, "wb") as writer:
                writer.setnchannels(1)
                writer.setsampwidth(2)
                writer.setframerate(SAMPLE_RATE)
                writer.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
            file.flush()
            features, length = script.audio_processor.get_audio_feature(file.name, weight_dtype=script.weight_dtype)
        chunks = script.audio_processor.get_whisper_chunk(
            features,
            script.device,
            script.weight_dtype,
            script.whisper,
            length,
            fps=25,
            audio_padding_length_left=2,
            audio_padding_length_right=2,
        )
        if len(chunks) < first + count:
            raise ModelError(f"MuseTalk's encoder gave {len(chunks)} frames of {first + count}.")
        return chunks[first : first + count]

    def _paste(self, avatar: Any, index: int, face: Any) -> Any:
        import cv2

        n = index % len(avatar.frame_list_cycle)
        box = avatar.coord_list_cycle[n]
        left, top, right, bottom = (int(side) for side in box)
        face = cv2.resize(check(np.asarray(face).astype(np.uint8), self.label), (right - left, bottom - top))
        blended = self._script.get_image_blending(
            copy.deepcopy(avatar.frame_list_cycle[n]),
            face,
            [left, top, right, bottom],
            avatar.mask_list_cycle[n],
            avatar.mask_coords_list_cycle[n],
        )
        return np.ascontiguousarray(blended[:, :, ::-1])

    def measure(self) -> float | None:
        if not self.settings["avatar"]:
            return None
        return self.measure_with(Face(), Video(512, 512, 25))


class MuseTalkSession(Session):
    """A job is (sound with what is around, first frame in it, frames, place in the cycle)."""

    def __init__(self, avatar: Any) -> None:
        self.avatar = avatar
        self.idle = [np.ascontiguousarray(avatar.frame_list_cycle[0][:, :, ::-1])]
        self._clean()

    def _clean(self) -> None:
        self._sound = np.zeros(0, np.float32)  # from `_before` frames before the next one
        self._before = 0
        self._index = 0
        self._finished = False

    def push(self, samples: Any) -> None:
        self._sound = np.concatenate([self._sound, samples])

    def finish(self) -> None:
        self._finished = True

    def next_job(self) -> Any:
        have = len(self._sound) / FRAME - self._before
        if self._finished:
            count = min(PIECE, int(np.ceil(have - 1e-6)))
            if count <= 0:
                return None
        elif have < PIECE + AFTER:
            return None
        else:
            count = PIECE
        end = (self._before + count + AFTER) * FRAME
        sound = self._sound[:end]
        job = (np.pad(sound, (0, end - len(sound))), self._before, count, self._index)
        self._index += count
        drop = max(0, self._before + count - BEFORE)
        self._before += count - drop
        self._sound = self._sound[drop * FRAME :]
        return job

    def reset(self) -> None:
        self._clean()
