"""What a conversation and the speech server say to each other.

One WebSocket a conversation. Text messages are JSON with a `type`, binary ones are sound of the utterance that was
started last: 16-bit mono samples at 16 kHz. The side that listens decides by voice activity where an utterance begins
and ends and keeps its sound until the final words are there, so that it can send all of it again to another server.

    client   open | start  sound ...  pause  (sound ...)  end
    server   ready        partial ...                          final or refused
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

VERSION = 1
STREAM_PATH = "/v1/stream"
MAX_SOUND_BYTES = 64 * 1024
MAX_UTTERANCE_SECONDS = 600.0
"""What is said without a pause after that is not heard."""
MAX_SILENCE_SECONDS = 30 * 86_400.0
"""Nobody is silent for longer in one conversation; more would only spoil the figures."""


class SpeechProtocolError(Exception):
    """The other side said something that makes no sense."""


class Message(BaseModel):
    """Base of all messages. What a newer side adds is ignored."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


# -- from the client -------------------------------------------------------------------------------------------------
class Open(Message):
    """First of all: how to hear this conversation."""

    type: Literal["open"] = "open"
    version: int = VERSION
    model: str = Field(default="", max_length=500)
    """Name of a model; empty: the one that the server has in use."""
    language: str = Field(default="", max_length=20)
    """Whisper's code of the language; empty: find out."""
    prompt: str = Field(default="", max_length=1000)
    hotwords: str = Field(default="", max_length=1000)
    words: bool = True
    """Whether finals come with the times of their words."""
    beam_size: int = Field(default=1, ge=1, le=10)
    no_speech_threshold: float = Field(default=0.6, ge=0, le=1)
    log_prob_threshold: float = Field(default=-1.0, ge=-10, le=0)
    compression_ratio_threshold: float = Field(default=2.4, ge=1, le=100)


class UtteranceStart(Message):
    """An utterance begins; its sound follows. `silence` is how long nobody had spoken, for the server's figures."""

    type: Literal["start"] = "start"
    utterance: int = Field(ge=0)
    silence: float = Field(default=0.0, ge=0, le=MAX_SILENCE_SECONDS)


class Pause(Message):
    """No voice for a moment: perhaps the end, so the final words should be on their way. More sound takes it back."""

    type: Literal["pause"] = "pause"
    utterance: int = Field(ge=0)


class End(Message):
    """The utterance is over: the final words, please."""

    type: Literal["end"] = "end"
    utterance: int = Field(ge=0)


class Cancel(Message):
    """Nobody wants to know any more."""

    type: Literal["cancel"] = "cancel"
    utterance: int = Field(ge=0)


# -- from the server -------------------------------------------------------------------------------------------------
class Ready(Message):
    """Answer to `open`."""

    type: Literal["ready"] = "ready"
    version: int = VERSION
    model: str = ""


class Partial(Message):
    """What was heard so far. The first `agreed` characters will not change in later partials."""

    type: Literal["partial"] = "partial"
    utterance: int
    text: str
    agreed: int = 0
    language: str = ""


class TimedWord(Message):
    """One word with its times, in seconds from the start of the utterance."""

    start: float
    end: float
    text: str
    probability: float


class Final(Message):
    """What was said; empty when nothing was. `revised` counts agreed words that turned out different."""

    type: Literal["final"] = "final"
    utterance: int
    text: str
    language: str = ""
    start: float = 0.0
    end: float = 0.0
    confidence: float = 0.0
    words: list[TimedWord] = []
    revised: int = 0


class Refused(Message):
    """This utterance will get no final words here. Without `utterance` the whole conversation is refused."""

    type: Literal["refused"] = "refused"
    code: Literal["busy", "no_model", "failed", "bad"]
    detail: str
    utterance: int | None = None


FromClient = Open | UtteranceStart | Pause | End | Cancel
FromServer = Ready | Partial | Final | Refused
_from_client: TypeAdapter[FromClient] = TypeAdapter(Annotated[FromClient, Field(discriminator="type")])
_from_server: TypeAdapter[FromServer] = TypeAdapter(Annotated[FromServer, Field(discriminator="type")])


def pack(message: Message) -> str:
    return message.model_dump_json()


def read_client(text: str) -> FromClient:
    """Raises ProtocolError."""
    try:
        return _from_client.validate_json(text)
    except ValidationError as error:
        raise SpeechProtocolError(_first(error)) from error


def read_server(text: str) -> FromServer:
    """Raises ProtocolError."""
    try:
        return _from_server.validate_json(text)
    except ValidationError as error:
        raise SpeechProtocolError(_first(error)) from error


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])


# -- where the server is -----------------------------------------------------------------------------------------------
def socket_path(url: str) -> str | None:
    """Path of the socket in `unix:///path`, None for an address of the network."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else None


def is_elsewhere(url: str) -> bool:
    """Whether the server may be on another machine: then its models need not be here."""
    return socket_path(url) is None


def stream_url(url: str) -> str:
    """Where the WebSocket of the server at `url` is; over a socket the host is only a name."""
    return f"{'http://speech' if socket_path(url) else url.rstrip('/')}{STREAM_PATH}"
