"""Servers that speak OpenAI's protocol: one class, from which each known server's derives.

Any other server is used by its base URL. All calls go through the guarded client, so a base URL on a private network
works only when the operator allowed it.
"""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import httpx2

from molts.errors import BadConfiguration
from molts.http import ResponseLimits, guarded_async_client
from molts.redact import hide_secrets
from projects.providers.base import Credentials, Kind, Options, Persona, ProbeResult, Provider, Readiness
from projects.providers.offers import list_offers
from projects.providers.openai_compatible.options import LLMOptions, STTOptions, TTSOptions
from projects.providers.openai_compatible.speech import SAMPLE_RATE as SPEECH_RATE
from projects.providers.openai_compatible.speech import SpeechRequest, ask_for_speech
from projects.providers.shared.probing import timed_probe, vendor_text

if TYPE_CHECKING:
    import openai
    from livekit.agents import llm, stt, tts


FORM_OF = {"OGG": "OPUS"}  # the name by which the protocol asks for a form, where it is another
_LIMITS = ResponseLimits(connect_seconds=5, read_seconds=30, total_seconds=180, max_bytes=50_000_000)


class OpenAICompatible(Provider):
    """Base of the presets, and itself the provider for any other server: it needs a base URL and, mostly, models."""

    key = "openai_compatible"
    label = "OpenAI-compatible server"
    kinds = frozenset({Kind.STT, Kind.LLM, Kind.TTS})
    options: ClassVar[Mapping[Kind, type[Options]]] = {Kind.STT: STTOptions, Kind.LLM: LLMOptions, Kind.TTS: TTSOptions}

    takes_base_url = True
    default_models: ClassVar[Mapping[Kind, str]] = {}
    default_voice: ClassVar[str] = "alloy"
    voices: ClassVar[tuple[str, ...]] = ()
    """Those that the vendor documents, where its server does not list them."""
    default_response_format: ClassVar[str] = "mp3"
    max_tokens_name: ClassVar[str] = "max_tokens"
    strict_tools: ClassVar[bool] = False
    """Whether it takes the strict form of a tool's schema."""
    own_networks: ClassVar[tuple[str, ...]] = ()
    """Networks on which its default address is called without the operator's leave."""

    def build_stt(self, *, options: Options, credentials: Credentials, persona: Persona) -> stt.STT[Any]:
        from projects.providers.openai_compatible.stt import CompatibleSTT

        assert isinstance(options, STTOptions)
        language = options.language or persona.language
        return CompatibleSTT(
            key=self.key,
            seconds=options.timeout,
            model=self._model(Kind.STT, options.model),
            language="en" if language == "auto" else language.split("-")[0],
            detect_language=language == "auto",
            **given(prompt=options.prompt),
            client=self.client(credentials),
            use_realtime=False,  # that way would not go through the guarded client
        )

    def build_llm(self, *, options: Options, credentials: Credentials, persona: Persona) -> llm.LLM[Any]:
        from projects.providers.openai_compatible.llm import CompatibleLLM
        from projects.providers.shared.deadline import DeadlineLLM

        assert isinstance(options, LLMOptions)
        model = CompatibleLLM(
            key=self.key,
            model=self._model(Kind.LLM, options.model),
            client=self.client(credentials),
            **given(
                temperature=options.temperature,
                reasoning_effort=options.reasoning_effort,
                extra_body={self.max_tokens_name: options.max_tokens} if options.max_tokens else None,
            ),
            _strict_tool_schema=self.strict_tools,
        )
        return DeadlineLLM(model, seconds=options.first_chunk_timeout)

    def build_tts(self, *, options: Options, credentials: Credentials, persona: Persona) -> tts.TTS[Any]:
        from projects.providers.openai_compatible.tts import CompatibleTTS

        assert isinstance(options, TTSOptions)
        return CompatibleTTS(
            key=self.key,
            seconds=options.first_audio_timeout,
            request=self._speech_request(options),
            client=self.client(credentials),
        )

    def check(self, kind: Kind, *, options: Options, credentials: Credentials) -> Readiness:
        if not (credentials.base_url or self.default_base_url):
            return Readiness(
                False, "its base URL is not set", "Add a provider key with the server's address and choose it here."
            )
        if not (getattr(options, "model", "") or self.default_models.get(kind)):
            return Readiness(False, "no model is chosen", "Name a model that the server has.")
        return super().check(kind, options=options, credentials=credentials)

    def defaults(self, kind: Kind) -> Mapping[str, str]:
        found = {"model": self.default_models.get(kind, "")}
        if kind is Kind.TTS:
            found |= {"voice": self.default_voice, "response_format": self.default_response_format}
        return {name: value for name, value in found.items() if value}

    async def offers(self, kind: Kind, *, credentials: Credentials) -> Mapping[str, Sequence[str]]:
        client = self.client(credentials)
        try:
            return await list_offers(client, kind, voices=self.voices)
        finally:
            await client.close()

    async def probe(self, kind: Kind, *, options: Options, credentials: Credentials) -> ProbeResult:
        import openai

        async def call() -> str:
            client = self.client(credentials)
            try:
                return await self._small_call(client, kind, options)
            except openai.APIStatusError as error:
                raise RuntimeError(f"{error.status_code}: {vendor_text(error)}") from None
            finally:
                await client.close()

        result = await timed_probe(call)
        return replace(result, text=hide_secrets(result.text), tried=self._names_model(kind, options))

    def client(self, credentials: Credentials) -> openai.AsyncClient:
        """Client of the SDK behind the guard. Raises BadConfiguration when the base URL is missing."""
        import openai

        base_url = credentials.base_url or self.default_base_url
        if not base_url:
            raise BadConfiguration(f"{self.label} needs a base URL, for example http://server:8000/v1.")
        try:
            client = openai.AsyncClient(
                api_key=credentials.api_key or "none",  # the SDK insists on one, else it would send the environment's
                base_url=base_url,
                organization="",
                project="",
                max_retries=0,
                http_client=self._http_client(base_url),
            )
        except httpx2.InvalidURL as error:
            raise BadConfiguration(f"{self.label}: the base URL cannot be used: {error}.") from error
        client.organization = client.project = None  # "" above kept the environment's ids out, None sends no header
        return client

    def _http_client(self, base_url: str) -> httpx2.AsyncClient:
        allowed = self.own_networks if base_url == self.default_base_url else ()
        return guarded_async_client(limits=_LIMITS, allowed_networks=allowed, event_hooks=_HOOKS)

    def _model(self, kind: Kind, name: str) -> str:
        if model := name or self.default_models.get(kind, ""):
            return model
        raise BadConfiguration(f"{self.label} ({kind.value}): choose a model.")

    def _speech_request(self, options: TTSOptions) -> SpeechRequest:
        return SpeechRequest(
            model=self._model(Kind.TTS, options.model),
            voice=options.voice or self.default_voice,
            response_format=options.response_format or self.default_response_format,
            speed=options.speed,
            instructions=options.instructions,
        )

    def _names_model(self, kind: Kind, options: Options) -> bool:
        return bool(getattr(options, "model", "")) or kind in self.default_models

    async def _small_call(self, client: openai.AsyncClient, kind: Kind, options: Options) -> str:
        if not self._names_model(kind, options):
            return await self._list_models(client)
        match options:
            case LLMOptions():
                answer = await client.chat.completions.create(
                    model=self._model(kind, options.model),
                    messages=[{"role": "user", "content": "Answer with the word ready."}],
                    extra_body={self.max_tokens_name: 16},
                )
                return f"answered {(answer.choices[0].message.content or '')[:60]!r}"
            case STTOptions():
                heard = await client.audio.transcriptions.create(
                    model=self._model(kind, options.model), file=("silence.wav", _silence(), "audio/wav")
                )
                return f"transcribed a second of silence as {heard.text[:60]!r}"
            case TTSOptions():
                return await _hear_speech(client, self._speech_request(options))
        raise BadConfiguration(f"{self.label} cannot be used for {kind.value}.")

    async def _list_models(self, client: openai.AsyncClient) -> str:
        """What can be tried without knowing a model: the address, the key, and which models there are."""
        names = [model.id for model in (await client.models.list()).data]
        offered = f"offers {', '.join(names[:5])}{' and more' if len(names) > 5 else ''}" if names else "names no model"
        return f"It {offered}. No model was tried: choose a model where the key is used."


def given(**settings: Any) -> dict[str, Any]:
    """The settings that have a value; the plugin has a mark of its own for those that have none."""
    return {name: value for name, value in settings.items() if value is not None and value != ""}


async def _hear_speech(client: openai.AsyncClient, request: SpeechRequest) -> str:
    """What a voice sounds like that says hello, in words. Raises UnusableSound for what cannot be played."""
    from projects.providers.shared.sound import UnusableSound, hear  # with it comes numpy, and registries need none

    async with ask_for_speech(client, request, "Hello.") as answer:
        sound = b"".join([data async for data in answer.sound()])
    asked = request.response_format
    heard = await asyncio.to_thread(hear, sound, asked=asked, content_type=answer.content_type, rate=SPEECH_RATE)
    if heard.is_silent:
        raise UnusableSound(f"the server sent {heard.seconds:.1f} s of silence instead of speech")
    form = heard.form.name
    other = "" if asked.upper() in (form, FORM_OF.get(form)) else f" ({form}, though {asked} was asked for)"
    return f"spoke {heard.seconds:.1f} s{other}"


async def _refuse_pages(response: httpx2.Response) -> None:
    """A web page is no answer to any call. Where a stream is wanted it would be read as an empty one."""
    if response.is_success and response.headers.get("content-type", "").lower().startswith("text/html"):
        raise RuntimeError("the server answered with a web page: check the base URL")


async def _without_room_ids(request: httpx2.Request) -> None:
    """The plugin tells LiveKit's own gateway about room and job; no other server needs to know."""
    for name in [name for name in request.headers if name.lower().startswith("x-livekit-")]:
        del request.headers[name]


_HOOKS = {"request": [_without_room_ids], "response": [_refuse_pages]}


def _silence() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(32000))
    return buffer.getvalue()
