"""The fields of a transcription form, checked: what is asked for, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from agent_runtime.speech.languages import language_code
from agent_runtime.speech.upload import UploadForm
from agent_runtime.speech.whole_file import Wish
from molts.errors import BadInput

ResponseFormat = Literal["json", "verbose_json", "text", "srt", "vtt"]

RESPONSE_FORMATS = ("json", "verbose_json", "text", "srt", "vtt")
GRANULARITIES = ("segment", "word")
MAX_PROMPT = 2000


@dataclass(frozen=True)
class TranscriptionRequest:
    """A checked form."""

    file: Path
    response_format: ResponseFormat
    stream: bool
    segments: bool
    wish: Wish


def require_text(form: UploadForm, name: str) -> str:
    if value := form.text(name):
        return value
    raise BadInput(f"The field `{name}` is missing.", code="missing_required_parameter", attr=name)


def read_request(form: UploadForm) -> TranscriptionRequest:
    """Check every field; the first that is wrong is named."""
    if form.file is None:
        raise BadInput("The field `file` is missing: send the audio in it, as a file.", attr="file")
    if form.file_bytes == 0:
        raise BadInput("The file is empty.", code="invalid_audio", attr="file")
    response_format = read_choice(form, "response_format", RESPONSE_FORMATS, default="json")
    granularities = read_granularities(form, response_format)
    stream = read_flag(form, "stream")
    if stream and response_format not in ("json", "text"):
        raise BadInput("With `stream` the response_format is json or text.", attr="response_format")
    if form.list("include"):
        raise BadInput("`include` is not supported: log probabilities are in verbose_json.", attr="include")
    return TranscriptionRequest(
        file=form.file,
        response_format=cast(ResponseFormat, response_format),
        stream=stream,
        segments="segment" in granularities,
        wish=Wish(
            language=read_language(form),
            prompt=read_limited(form, "prompt"),
            hotwords=", ".join([*filter(None, [read_limited(form, "hotwords")]), *form.list("keywords")])[:MAX_PROMPT],
            words="word" in granularities,
            temperature=read_temperature(form),
        ),
    )


def read_choice(form: UploadForm, name: str, choices: tuple[str, ...], *, default: str) -> str:
    value = form.text(name, default)
    if value not in choices:
        raise BadInput(f"{name} is one of {', '.join(choices)}, not `{value[:50]}`.", attr=name)
    return value


def read_flag(form: UploadForm, name: str) -> bool:
    value = read_choice(form, name, ("true", "false", "True", "False", "1", "0"), default="false")
    return value in ("true", "True", "1")


def read_granularities(form: UploadForm, response_format: str) -> set[str]:
    granularities = set(form.list("timestamp_granularities"))
    if unknown := granularities - set(GRANULARITIES):
        raise BadInput(
            f"timestamp_granularities are {' and '.join(GRANULARITIES)}, not `{min(unknown)[:50]}`.",
            attr="timestamp_granularities",
        )
    if granularities and response_format != "verbose_json":
        raise BadInput("timestamp_granularities need response_format=verbose_json.", attr="timestamp_granularities")
    return granularities or {"segment"}


def read_language(form: UploadForm) -> str | None:
    given = form.text("language")
    if not given or given == "auto":
        return None
    if code := language_code(given):
        return code
    raise BadInput(f"Whisper does not know the language `{given[:50]}`; send a code such as en.", attr="language")


def read_limited(form: UploadForm, name: str) -> str:
    value = form.text(name)
    if len(value) > MAX_PROMPT:
        raise BadInput(f"{name} has more than {MAX_PROMPT} characters.", attr=name)
    return value


def read_temperature(form: UploadForm) -> float:
    try:
        value = float(form.text("temperature", "0"))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise BadInput("temperature is a number from 0 to 1.", attr="temperature")
    return value
