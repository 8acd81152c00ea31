"""What a server offers for the fields "model" and "voice": names out of what it answers, whatever their form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from projects.providers.base import Kind

if TYPE_CHECKING:
    import openai

VOICE_PATHS = ("/audio/voices", "/audio/speech/voices")
MOST_NAMES = 300
LONGEST_NAME = 120

# A list of models says rarely what each is for; their names mostly do.
HEARS = ("whisper", "transcribe", "-asr", "asr-", "-stt", "stt-", "parakeet", "canary", "sensevoice", "voxtral")
SPEAKS = ("tts", "kokoro", "orpheus", "piper", "chatterbox", "bark", "xtts", "csm-", "dia-")
NEITHER = ("embed", "rerank", "moderation", "dall-e", "image", "sora", "realtime", "guard", "-vae", "diffusion")
TASKS = {"automatic-speech-recognition": Kind.STT, "text-to-speech": Kind.TTS, "text-generation": Kind.LLM}


async def list_offers(client: openai.AsyncClient, kind: Kind, *, voices: Sequence[str]) -> dict[str, list[str]]:
    """Models for `kind` and, of a voice, its voices; `voices` are those to name when the server lists none.

    Raises whatever a call can, when the server does not say which models it has.
    """
    entries = _entries(await client.get("/models", cast_to=object), "models")
    offers = {"model": models_for(kind, entries)}
    if kind is Kind.TTS:
        offers["voice"] = await _voices(client, entries) or list(voices)
    return offers


def models_for(kind: Kind, entries: Iterable[Any]) -> list[str]:
    """Names of the models that serve `kind`; all of them when none looks as if it did."""
    known = [(name, _use(entry, name)) for entry in entries if (name := _name(entry, "id", "model", "name"))]
    fitting = [name for name, use in known if use is kind]
    return _cleaned(fitting or [name for name, _ in known])


async def _voices(client: openai.AsyncClient, models: Iterable[Any]) -> list[str]:
    """From the list of voices, where the server has one, and from the models that name their own."""
    import openai

    found = [voice for entry in models if isinstance(entry, dict) for voice in _entries(entry, "voices")]
    for path in VOICE_PATHS:
        if found:
            break
        try:
            found = _entries(await client.get(path, cast_to=object), "voices")
        except openai.OpenAIError:
            continue  # most servers have no such list
    return _cleaned(_name(voice, "id", "voice_id", "name") for voice in found)


def _entries(answer: Any, name: str) -> list[Any]:
    """The list in an answer: it may be the answer itself, or stand under "data" or `name`."""
    if isinstance(answer, dict):
        answer = next((answer[key] for key in (name, "data") if isinstance(answer.get(key), list)), [])
    return list(answer)[: MOST_NAMES * 10] if isinstance(answer, list) else []


def _name(entry: Any, *keys: str) -> str:
    if isinstance(entry, dict):
        entry = next((entry[key] for key in keys if isinstance(entry.get(key), str)), "")
    return entry if isinstance(entry, str) else ""


def _use(entry: Any, name: str) -> Kind | None:
    if isinstance(entry, dict) and (kind := TASKS.get(str(entry.get("task")))):
        return kind
    lowered = name.lower()
    for words, kind in ((NEITHER, None), (HEARS, Kind.STT), (SPEAKS, Kind.TTS)):
        if any(word in lowered for word in words):
            return kind
    return Kind.LLM


def _cleaned(names: Iterable[str]) -> list[str]:
    """Once each, in order, as they can be shown: what a server says is untrusted text."""
    fit = (name for name in names if name and len(name) <= LONGEST_NAME and name.isprintable())
    return sorted(dict.fromkeys(fit), key=str.lower)[:MOST_NAMES]
