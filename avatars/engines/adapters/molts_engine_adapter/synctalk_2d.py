"""SyncTalk_2D: one U-Net for each trained face, an audio-visual encoder for all; frames of all conversations with the
same face in one call.

Facts, from its inference script: the encoder takes mel windows (n, 1, 80, 16) and gives 512 features for each frame;
the U-Net takes (n, 6, 320, 320) (the face as it is and with its middle black, BGR, 0 to 1) and the features of the 16
frames around, as (n, 32, 16, 16); it gives (n, 3, 320, 320). The face is cut out of dataset/NAME/full_body_img/*.jpg by
dataset/NAME/landmarks/*.lms, scaled to 328, and the net works on the inner 320. Weights: checkpoint/NAME/<number>.pth.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .mel import PER_SECOND, STEP, StreamingMel
from .model import SAMPLE_RATE, Face, Model, ModelError, Session, Video

OUTER, BORDER = 328, 4
AROUND = 8  # frames before and after
MOST_IMAGES = 250  # ten seconds, played forth and back; 786 kB each at 512x512


class SyncTalk2D(Model):
    name = "synctalk_2d"
    label = "SyncTalk_2D"
    lookahead = AROUND / 25 + STEP / PER_SECOND
    batch = 8
    jobs_at_once = 2
    environment = {"name": "SYNCTALK_2D_NAME", "root": "SYNCTALK_2D_ROOT"}
    defaults: Mapping[str, str] = {"name": "May", "root": "."}

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__(settings)
        self._torch: Any = None
        self._net_kind: Any = None
        self._encoder: Any = None
        self._device = "cpu"
        self._characters: dict[str, TrainedFace] = {}

    def load(self) -> None:
        root = self.settings["root"]
        try:
            self._torch = importlib.import_module("torch")
            self._net_kind = importlib.import_module("unet_328").Model
            encoder_kind = importlib.import_module("utils").AudioEncoder
        except (ImportError, AttributeError) as error:
            raise ModelError(
                f"SyncTalk_2D was not found ({error}): start this in SyncTalk_2D's folder, with its Python.",
                "missing",
            ) from error
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        weights = os.path.join(root, "model", "checkpoints", "audio_visual_encoder.pth")
        if not os.path.isfile(weights):
            raise ModelError(f"There is no {weights}: fetch it as SyncTalk_2D's README says.", "missing")
        self._encoder = encoder_kind().to(self._device).eval()
        state = self._torch.load(weights, map_location=self._device)
        self._encoder.load_state_dict({"audio_encoder." + key: value for key, value in state.items()})
        self.character("")

    def character(self, name: str) -> TrainedFace:
        name = name or self.settings["name"]
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            raise ModelError(f"{name!r} is no name of a character.", "bad_face")
        if name not in self._characters:
            folder = os.path.join(self.settings["root"], "checkpoint", name)
            found = [file for file in os.listdir(folder) if file.endswith(".pth")] if os.path.isdir(folder) else []
            if not found:
                raise ModelError(f"There are no weights in {folder}: train the face {name!r} first.", "bad_face")
            newest = max(found, key=lambda file: int("".join(filter(str.isdigit, file)) or 0))
            net = self._net_kind(6, "ave").to(self._device)
            net.load_state_dict(self._torch.load(os.path.join(folder, newest), map_location=self._device))
            net.eval()
            images = read_images(os.path.join(self.settings["root"], "dataset", name))
            self._characters[name] = TrainedFace(net, images)
        return self._characters[name]

    def open(self, face: Face, video: Video) -> Session:
        if video.fps != 25:
            raise ModelError(f"SyncTalk_2D makes 25 frames a second, {video.fps:.1f} were asked for.")
        return SyncTalk2DSession(self.character(str(face.options.get("character") or "")))

    def render(self, jobs: Sequence[tuple[Session, Any]]) -> list[Sequence[Any]]:
        pairs: list[tuple[SyncTalk2DSession, int]] = [(session, job) for session, job in jobs]  # type: ignore[misc]
        for session in {id(session): session for session, _ in pairs}.values():
            session.add_features(self._encode(session.new_windows()))
        results: list[Sequence[Any]] = [()] * len(pairs)
        for character in {id(session.character): session.character for session, _ in pairs}.values():
            chosen = [n for n, (session, _) in enumerate(pairs) if session.character is character]
            images = [character.images[pairs[n][0].image_of(pairs[n][1])] for n in chosen]
            sound = np.stack([pairs[n][0].features_of(pairs[n][1]) for n in chosen])
            made = self._run(character.net, np.stack([image.input for image in images]), sound)
            for n, image, face in zip(chosen, images, made):
                results[n] = [image.paste(face)]
        return results

    def _encode(self, windows: Any) -> Any:
        if not len(windows):
            return np.zeros((0, 512), np.float32)
        with self._torch.no_grad():
            return self._encoder(self._torch.from_numpy(windows).to(self._device)).cpu().numpy()

    def _run(self, net: Any, pictures: Any, sound: Any) -> Any:
        torch = self._torch
        with torch.no_grad():
            made = (
                net(torch.from_numpy(pictures).to(self._device), torch.from_numpy(sound).to(self._device)).cpu().numpy()
            )
        inner = OUTER - 2 * BORDER
        if made.shape != (len(pictures), 3, inner, inner):
            raise ModelError(f"SyncTalk_2D's net gave {made.shape}; expected {(len(pictures), 3, inner, inner)}.")
        return (np.clip(made, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)

    def measure(self) -> float:
        return self.measure_with(Face(), Video(512, 512, 25))


class TrainedFace:
    """A trained face: its net, and the pictures it moves in."""

    def __init__(self, net: Any, images: list[Image]) -> None:
        self.net = net
        self.images = images


class Image:
    """One picture of the training video, with its face cut out for the net."""

    def __init__(self, picture: Any, box: tuple[int, int, int, int]) -> None:
        import cv2

        self._cv2 = cv2
        self.picture = picture  # BGR
        left, top, right, bottom = box
        self._rows, self._columns = slice(top, bottom), slice(left, right)
        self._outer = cv2.resize(picture[self._rows, self._columns], (OUTER, OUTER), interpolation=cv2.INTER_CUBIC)
        inner = self._outer[BORDER:-BORDER, BORDER:-BORDER]
        hidden = cv2.rectangle(inner.copy(), (5, 5, 310, 305), (0, 0, 0), -1)
        self.input = (np.concatenate([inner, hidden], axis=2).transpose(2, 0, 1) / 255).astype(np.float32)

    def paste(self, face: Any) -> Any:
        """(height, width, 3), RGB: the picture with `face` (320, 320, BGR) in its place."""
        cv2 = self._cv2
        outer = self._outer.copy()
        outer[BORDER:-BORDER, BORDER:-BORDER] = face
        picture = self.picture.copy()
        height, width = picture[self._rows, self._columns].shape[:2]
        picture[self._rows, self._columns] = cv2.resize(outer, (width, height), interpolation=cv2.INTER_CUBIC)
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


class SyncTalk2DSession(Session):
    """The sound of one utterance, and where in its pictures the face is."""

    def __init__(self, character: TrainedFace) -> None:
        import cv2

        self.character = character
        self.idle = [cv2.cvtColor(character.images[0].picture, cv2.COLOR_BGR2RGB)]
        self.reset()

    def reset(self) -> None:
        self._mel = StreamingMel()
        self._features = np.zeros((0, 512), np.float32)
        self._samples = self._next = 0
        self._finished = False

    def push(self, samples: Any) -> None:
        self._samples += len(samples)
        self._mel.push(samples)

    def finish(self) -> None:
        self._finished = True
        self._mel.finish()

    def _frames_known(self) -> int:
        """Frames whose own mel window is complete."""
        if self._finished:
            return int(np.ceil(self._samples * 25 / SAMPLE_RATE - 1e-6))
        return max(0, int((len(self._mel.frames) - STEP) * 25 / PER_SECOND) + 1)

    def next_job(self) -> Any:
        known = self._frames_known()
        if self._next >= known or (not self._finished and self._next + AROUND >= known):
            return None
        self._next += 1
        return self._next - 1

    def new_windows(self) -> Any:
        """(n, 1, 80, 16): of the frames that have no features yet."""
        known = range(len(self._features), self._frames_known())
        if not known:
            return np.zeros((0, 1, 80, STEP), np.float32)
        return np.stack([self._mel.window(int(n * PER_SECOND / 25)) for n in known])[:, None].astype(np.float32)

    def add_features(self, features: Any) -> None:
        self._features = np.concatenate([self._features, features])

    def features_of(self, index: int) -> Any:
        """(32, 16, 16): of the 16 frames around; the first and the last stand for those that are not there."""
        around = np.clip(np.arange(index - AROUND, index + AROUND), 0, len(self._features) - 1)
        return self._features[around].reshape(32, 16, 16)

    def image_of(self, index: int) -> int:
        """Forth and back through the pictures."""
        count = len(self.character.images)
        place = index % max(1, 2 * count - 2)
        return place if place < count else 2 * count - 2 - place


def read_images(folder: str) -> list[Image]:
    """The pictures of a trained face, in order. Raises ModelError."""
    import cv2

    pictures, marks = os.path.join(folder, "full_body_img"), os.path.join(folder, "landmarks")
    images = []
    for number in range(MOST_IMAGES):
        path, points = os.path.join(pictures, f"{number}.jpg"), os.path.join(marks, f"{number}.lms")
        if not os.path.isfile(path) or not os.path.isfile(points):
            break
        picture: Any = cv2.imread(path)
        at = np.loadtxt(points).astype(int)
        left, top, right = int(at[1][0]), int(at[52][1]), int(at[31][0])
        bottom = min(picture.shape[0], top + right - left)
        if not (0 <= left < right <= picture.shape[1] and 0 <= top < bottom):
            raise ModelError(f"{points} marks a face outside its picture.", "bad_face")
        images.append(Image(picture, (left, top, right, bottom)))
    if not images:
        raise ModelError(f"There are no pictures with landmarks in {folder}: prepare the face first.", "bad_face")
    return images
