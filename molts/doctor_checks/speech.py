"""Checks of what hears, speaks and answers: recognisers, the speech server, voices, language models."""

from __future__ import annotations

from django.conf import settings

from avatars.services import default_pipeline
from molts.doctor_checks.findings import START_IT, Finding, failed, ok, short, warning
from projects.providers import get_provider, providers_for
from projects.providers.base import Kind, Readiness
from projects.providers.faster_whisper.state import SpeechServerSilent, read_state


def check_recogniser() -> Finding:
    (name, best), (_, last) = _best_and_last(Kind.STT)
    if best.ready:
        return ok(f"{name}: {best.text}")
    if last.ready:
        return warning(f"{best.text}; until then the offline recogniser serves, which often errs", best.fix)
    return failed(f"{best.text}; {last.text}", f"{best.fix} {last.fix}")


def check_speech_server() -> Finding:
    """Never a fault: without it every conversation hears by itself, with more memory and no words while one speaks."""
    if not settings.MOLTS_SPEECH_URL:
        return ok("none: each conversation loads the recogniser's model for itself")
    try:
        state = read_state(settings.MOLTS_SPEECH_URL, secret=settings.MOLTS_SPEECH_SECRET)
    except SpeechServerSilent as error:
        text = f"{settings.MOLTS_SPEECH_URL}: {short(error)}; conversations load the model for themselves"
        return warning(text, f"{START_IT}, or: manage.py run_speech")
    if "model" not in state:
        return warning(f"{settings.MOLTS_SPEECH_URL} refuses our secret", "Give it and us the same MOLTS_SPEECH_SECRET")
    if not state["ready"]:
        return warning(f"runs, but its model {state.get('wanted')} is not loaded", "manage.py speech_models list")
    text = f"{state['model']} on {state['device']} ({state['compute_type']}), {state['streams']} conversations"
    ladder = state.get("ladder") or {}
    if moves := ladder.get("moves"):
        text += f", {moves} changes of size" if moves > 1 else ", 1 change of size"
    if ladder.get("error"):
        text += f", the last one failed: {ladder['error']}"
    if ladder.get("reason"):
        fix = (
            f"Let less run on this machine, choose a smaller model with MOLTS_WHISPER_MODEL, or, where it is not here: "
            f"manage.py speech_models download {state['wanted']}"
        )
        return warning(f"{text}; instead of {state['wanted']}: {ladder['reason']}", fix)
    return ok(text)


def check_voices() -> Finding:
    (name, best), (simplest, last) = _best_and_last(Kind.TTS)
    if best.ready:
        return ok(name + (f" and {simplest}" if last.ready else ""))
    if last.ready:
        return warning(f"{best.text}; {simplest} speaks", best.fix)
    return failed(f"{best.text}; {last.text}", last.fix)


def check_language_models() -> Finding:
    """Never a fault: the scripted model needs nothing."""
    here, away = [], []
    for provider in providers_for(Kind.LLM):
        if not provider.looks_here:
            continue
        if found := provider.find_here():
            here.append(f"{provider.label} with {', '.join(found.models) or 'no models yet'}")
        else:
            away.append(f"no {provider.label} on this machine")
    return ok("; ".join([*here, "scripted answers", *away]))


def _best_and_last(kind: Kind) -> tuple[tuple[str, Readiness], tuple[str, Readiness]]:
    """The ends of the chain that serves where nothing was chosen: what they are called, and whether they serve."""
    rungs = default_pipeline()[kind]
    return _readiness(rungs[0].provider, kind), _readiness(rungs[-1].provider, kind)


def _readiness(key: str, kind: Kind) -> tuple[str, Readiness]:
    provider = get_provider(key)
    return provider.short_label, provider.readiness(kind, provider.parse_options(kind, {}))
