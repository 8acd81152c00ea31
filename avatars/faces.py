"""Avatars as faces: what can move them, whether one can be used, what an engine is given of it, and its versions."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from PIL import Image

from avatars.characters import CHARACTERS
from avatars.engines import ENGINES, STILL, get_engine
from avatars.engines.base import EngineHealth, Face, LipSyncEngine, Need, VideoFormat
from avatars.models import Avatar, AvatarVersion
from avatars.portraits import DEFAULT_CHARACTER, still_name
from avatars.services import snapshot_avatar, validate_rung
from avatars.snapshots import AvatarSnapshot
from molts.errors import BadConfiguration, BadInput
from projects.models import ProviderKey
from projects.providers import get_provider, providers_for
from projects.providers.base import Kind, Provider

log = logging.getLogger(__name__)

HEALTH_SECONDS = 2.0
PORTRAIT = Need("a portrait")
PICTURES = {"puppet": "puppet.webp", "portrait": "portrait.webp"}


# -- What can move a face ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class FaceChoice:
    """One thing to choose for a face: an engine of ours, a hosted service, or a picture that stays still."""

    key: str
    label: str
    description: str
    health: EngineHealth
    needs: tuple[Need, ...] = ()
    """What must be supplied before it can be used; empty: nothing."""
    hosted: bool = False
    needs_portrait: bool = False
    takes_portrait: bool = False
    live: bool = True
    has_host: bool = False
    renders: bool = True
    """Whether previews can be made of it here."""
    picture: str = "neural.svg"
    """A file of static/src/engines: what it does at a glance."""


def find_engine(key: str) -> LipSyncEngine | None:
    """The engine of this name; None for another kind of face, and for an engine whose code this copy cannot load."""
    if key not in ENGINES:
        return None
    try:
        return get_engine(key)
    except (ImportError, AttributeError):
        log.warning("the engine %s cannot be loaded", key, exc_info=True)
        return None


def hosted_providers() -> list[Provider]:
    """Services that render and publish faces themselves."""
    return providers_for(Kind.AVATAR)


def find_hosted(key: str) -> Provider | None:
    return next((provider for provider in hosted_providers() if provider.key == key), None)


def face_choices() -> list[FaceChoice]:
    """Everything that an avatar's engine can be, with how it stands on this machine right now."""
    engines = [engine for key in ENGINES if (engine := find_engine(key))]
    health = _health_of(engines)
    return [
        *(_engine_choice(engine, health[engine.key]) for engine in engines),
        *(_hosted_choice(provider) for provider in hosted_providers()),
        FaceChoice(
            key=STILL,
            label="Still picture",
            description="The picture alone; conversations have a voice and no video.",
            health=EngineHealth(True, "always there"),
            needs=(Need("a picture"),),
            takes_portrait=True,
            renders=False,
            picture="still.svg",
        ),
    ]


def _engine_choice(engine: LipSyncEngine, health: EngineHealth) -> FaceChoice:
    return FaceChoice(
        key=engine.key,
        label=engine.label,
        description=engine.description,
        health=health,
        needs=((PORTRAIT,) if engine.needs_portrait else ()) + engine.needs,
        needs_portrait=engine.needs_portrait,
        takes_portrait=engine.needs_portrait,
        live=engine.live,
        has_host=engine.has_host,
        picture=PICTURES.get(engine.key, "neural.svg"),
    )


def _hosted_choice(provider: Provider) -> FaceChoice:
    readiness = provider.readiness(Kind.AVATAR, provider.parse_options(Kind.AVATAR, {}))
    return FaceChoice(
        key=provider.key,
        label=provider.label,
        description="A face that the vendor renders and sends into the conversation.",
        health=EngineHealth(readiness.ready, readiness.text, readiness.fix),
        needs=(
            Need("a key of the vendor"),
            Need("the name of a face there"),
            Need("a media server that the vendor can reach", ("LIVEKIT_PUBLIC_URL",)),
        ),
        hosted=True,
        takes_portrait=True,  # shown until the vendor's picture is there
        renders=False,
        picture="hosted.svg",
    )


def _health_of(engines: Iterable[LipSyncEngine]) -> dict[str, EngineHealth]:
    """Asked side by side: one that hangs must not keep the page waiting."""
    pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="engine-health")
    asked = {engine.key: pool.submit(engine.health) for engine in engines}
    found = {}
    for key, answer in asked.items():
        try:
            found[key] = answer.result(timeout=HEALTH_SECONDS)
        except TooLate:
            found[key] = EngineHealth(False, f"does not answer within {HEALTH_SECONDS:g} s", "Restart its engine host.")
        except Exception as error:  # whatever a broken installation of a model raises
            log.warning("the health of the engine %s is unknown", key, exc_info=True)
            found[key] = EngineHealth(False, f"cannot be asked: {error}")
    pool.shutdown(wait=False, cancel_futures=True)
    return found


def engine_label(key: str) -> str:
    if key == STILL:
        return "Still picture"
    engine = find_engine(key)
    if engine is not None:
        return engine.label
    try:
        return get_provider(key).label
    except BadConfiguration:
        return key


# -- Whether a face can be used ---------------------------------------------------------------------------------------
def validate_avatar(avatar: Avatar) -> None:
    """Raise BadInput when the stored avatar could not be shown; `attr` is the field to mend."""
    validate_face(
        project_id=avatar.project_id,
        engine=avatar.engine,
        options=avatar.options,
        provider_key=avatar.provider_key,
        portrait=local_portrait(avatar.portrait.name or ""),
    )


def validate_face(
    *,
    project_id: uuid.UUID,
    engine: str,
    options: Mapping[str, Any],
    provider_key: ProviderKey | None,
    portrait: Path | None,
) -> None:
    """Check one face, with its picture as a local file. May take a second: an engine looks for the face in it.

    Raises BadInput; `attr` is the field to mend: engine, provider_key, portrait, options, or `options.<name>`.
    """
    if engine == STILL:
        if portrait is None:
            raise BadInput("Upload the picture that visitors see.", attr="portrait")
        return
    if (provider := find_hosted(engine)) is not None:
        validate_rung(
            project_id=project_id, kind=Kind.AVATAR, provider=engine, options=options, provider_key=provider_key
        )
        if missing := provider.missing(provider.parse_options(Kind.AVATAR, options)):
            name = missing[0].replace("_", " ")
            raise BadInput(
                f"{provider.label} needs the {name}: copy it from the vendor's studio.", attr=f"options.{missing[0]}"
            )
        return
    chosen = find_engine(engine)
    if chosen is None:
        raise BadInput(f"There is no engine {engine!r} on this server. Choose another one.", attr="engine")
    if provider_key is not None:
        raise BadInput(f"{chosen.label} runs on this server and takes no key.", attr="provider_key")
    try:
        chosen.parse_options(options)
    except BadConfiguration as error:
        raise _bad_option(error) from error
    if chosen.needs_portrait and portrait is None:
        raise BadInput(f"{chosen.label} moves a picture: upload a portrait.", attr="portrait")
    if engine == "puppet" and options.get("character", DEFAULT_CHARACTER) not in CHARACTERS:
        raise BadInput(f"There is no such character. There are: {', '.join(CHARACTERS)}.", attr="options.character")
    face = make_face(engine=engine, options=options, portrait=portrait)
    if refusal := _refusal(_FaceCheck(chosen, face.key, face)):
        raise BadInput(refusal.detail, attr=refusal.attr)


@dataclass(frozen=True)
class _FaceCheck:
    """Whether an engine can use a face, which its key alone tells from others."""

    engine: LipSyncEngine
    key: str
    face: Face = field(compare=False)


@lru_cache(maxsize=64)
def _refusal(question: _FaceCheck) -> BadInput | None:
    """What is wrong with a face. Remembered: pages ask again for a face that they showed or refused a moment ago, and
    when they store it, they must not look for it again while they hold a lock."""
    try:
        question.engine.check_face(question.face)
    except BadInput as error:
        return error
    return None


def _bad_option(error: BadConfiguration) -> BadInput:
    named = error.attr and error.attr != "options"
    return BadInput(error.detail, attr=f"options.{error.attr}" if named else "options")


# -- What an engine is given ------------------------------------------------------------------------------------------
def resolve_face(avatar: AvatarSnapshot) -> Face:
    """The avatar as an engine takes it.

    Reads the storage: call it in a thread. Raises BadInput when the picture is gone.
    """
    return make_face(
        engine=avatar.engine, options=avatar.options, portrait=local_portrait(avatar.portrait), name=avatar.name
    )


def make_face(*, engine: str, options: Mapping[str, Any], portrait: Path | None, name: str = "") -> Face:
    """A face with the key that names this very version: the same engine, options and picture have the same key."""
    digest = hashlib.sha256(json.dumps([engine, options], sort_keys=True).encode())
    if portrait is not None:
        digest.update(portrait.read_bytes())
    return Face(key=digest.hexdigest()[:32], name=name, portrait=portrait, options=dict(options))


def keep_still(face: Face, *, engine: str, portrait: str, video: VideoFormat) -> None:
    """Keep the prepared face at rest, cut as its video, for the pages that show it before and after: once.

    `portrait` is the upload's path in the storage. Computes and writes: never in a request. Raises as its engine.
    """
    if not portrait:
        return
    name = still_name(engine=engine, options=face.options, portrait=portrait)
    if default_storage.exists(name):
        return
    still = get_engine(engine).still(face, video)
    if still is None:
        return
    output = io.BytesIO()
    Image.fromarray(still).save(output, format="JPEG", quality=92)
    default_storage.save(name, ContentFile(output.getvalue()))


def local_portrait(name: str) -> Path | None:
    """The stored picture as a file on this machine, fetched once where the storage is elsewhere; None without one.

    Raises BadInput when it is gone.
    """
    if not name:
        return None
    try:
        path = Path(default_storage.path(name))
    except NotImplementedError:
        path = settings.MOLTS_DATA_DIR / "cache" / "portraits" / Path(name).name
        if not path.exists():
            _fetch(name, path)
    if not path.is_file():
        raise BadInput("The picture of this face is gone. Upload it again.", attr="portrait")
    return path


def _fetch(name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{uuid.uuid4().hex}.part")  # two may fetch at once; each moves a whole file into place
    try:
        with default_storage.open(name) as source:
            part.write_bytes(source.read())
        part.replace(path)
    except FileNotFoundError:
        part.unlink(missing_ok=True)


# -- Versions ---------------------------------------------------------------------------------------------------------
def save_avatar_version(*, avatar: Avatar, user: AbstractBaseUser | None = None) -> AvatarVersion:
    """Keep the avatar as it is stored now. Returns the last version when nothing differs from it, else a new one."""
    with transaction.atomic():
        # The avatar's row is the lock: two editors who save at once get two numbers, one after the other.
        stored = Avatar.objects.select_for_update(of=("self",)).get(pk=avatar.pk)
        snapshot = snapshot_avatar(stored)
        last = stored.versions.order_by("-number").first()
        if last is not None and last.avatar_snapshot == snapshot:
            return last
        return AvatarVersion.objects.create(
            avatar=stored,
            number=last.number + 1 if last else 1,
            snapshot=snapshot.as_json(),
            created_by_id=user.pk if user else None,
        )


def restore_version(*, version: AvatarVersion, user: AbstractBaseUser | None = None) -> AvatarVersion:
    """Make the avatar what it was in `version`; returns the version that says so, a new one if anything differs.

    Raises BadInput, and changes nothing, when its picture or key is gone or it cannot be used any more.
    """
    then = version.avatar_snapshot
    avatar = Avatar.objects.get(pk=version.avatar_id)
    restored = ("name", "engine", "options", "builtin", "portrait")
    for name in restored:
        setattr(avatar, name, getattr(then, name))
    avatar.provider_key = _key_as_then(avatar, then.provider_key)
    validate_avatar(avatar)  # it may look for the face, which takes long: nobody shall wait for that with a lock
    with transaction.atomic():
        avatar.save(update_fields=[*restored, "provider_key", "updated_at"])
        return save_avatar_version(avatar=avatar, user=user)


def _key_as_then(avatar: Avatar, key_id: str | None) -> ProviderKey | None:
    if key_id is None:
        return None
    key = ProviderKey.objects.filter(pk=key_id, project_id=avatar.project_id).first()
    if key is None:
        raise BadInput("The key of this version was deleted. Choose another key in the editor.")
    return key


# -- In words ---------------------------------------------------------------------------------------------------------
def face_details(avatar: AvatarSnapshot, names: Mapping[str, str]) -> dict[str, str]:
    """Everything of an avatar by its label, as text. "" is not set."""
    key = avatar.provider_key
    options = {name.replace("_", " ").capitalize(): _in_words(value) for name, value in avatar.options.items()}
    return {
        "Name": avatar.name,
        "Engine": engine_label(avatar.engine),
        "Key": names.get(key, "a key that no longer exists") if key else "",
        "Picture": "uploaded" if avatar.portrait else "",
        **options,
    }


def describe_face(avatar: AvatarSnapshot, names: Mapping[str, str]) -> str:
    """ "Puppet, character mira" in one line, without its name."""
    details = face_details(avatar, names)
    del details["Name"]
    engine, picture = details.pop("Engine"), details.pop("Picture")
    parts = [f"{label.lower()} {value}" for label, value in details.items() if value]
    return ", ".join([engine, *(["with a portrait"] if picture else []), *parts])


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | dict):
        return "marked by hand"
    return str(value)
