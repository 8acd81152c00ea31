"""A language model that needs no model: it answers from the agent's own questions, answers and knowledge text.

What was asked is matched by meaning (`meaning`), small talk, the time and the date are understood (`small_talk`), and
what is not known is said to be not known. Answers are streamed word by word, as a model's would be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from projects.providers.base import Credentials, Kind, Options, Persona, ProbeResult, Provider
from projects.providers.scripted.options import KEY, ScriptedOptions

if TYPE_CHECKING:
    from livekit.agents import llm


class Scripted(Provider):
    key = KEY
    label = "Scripted answers (no model needed)"
    kinds = frozenset({Kind.LLM})
    options: ClassVar = {Kind.LLM: ScriptedOptions}
    local = True
    last_resort = True

    def build_llm(self, *, options: Options, credentials: Credentials, persona: Persona) -> llm.LLM[Any]:
        from projects.providers.scripted.llm import ScriptedLLM

        assert isinstance(options, ScriptedOptions)
        return ScriptedLLM(persona=persona, options=options)

    async def probe(self, kind: Kind, *, options: Options, credentials: Credentials) -> ProbeResult:
        return ProbeResult(True, "always ready", 0)
