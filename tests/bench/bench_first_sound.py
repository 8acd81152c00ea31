"""When a voice has its first words, in twelve languages, at the same token rate; beside LiveKit's own sentences.

The clock is scripted (20 tokens a second, each as long as the language's are), so the figures are the same on every
machine.
"""

from __future__ import annotations

import pytest
from livekit.agents import tokenize

from projects.providers.shared.pieces import PieceTokenizer
from tests.projects.providers.first_words import ANSWERS, LIMIT, TOKENS_PER_SECOND, first_piece


@pytest.mark.bench
async def test_the_first_words_come_as_soon_in_every_language_as_in_english() -> None:
    peer = tokenize.blingfire.SentenceTokenizer(retain_format=True)  # what an AgentSession takes by itself
    print(f"\nfirst words at {TOKENS_PER_SECOND} tokens a second, in seconds (and times English):")
    print(f"  {'':<4}{'molts':>16}{'livekit-agents':>18}  what molts says first")
    english = (await first_piece(PieceTokenizer(), "en"))[0], (await first_piece(peer, "en"))[0]
    late = []
    for language in ANSWERS:
        ours, piece = await first_piece(PieceTokenizer(), language)
        theirs, _ = await first_piece(peer, language)
        print(
            f"  {language:<4}{ours:>8.2f} ({ours / english[0]:.2f}x){theirs:>10.2f} ({theirs / english[1]:.2f}x)"
            f"  {piece.strip()}"
        )
        if ours > LIMIT * english[0]:
            late.append(language)
    assert late == []
