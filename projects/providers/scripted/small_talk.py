"""What people say beside their questions: greetings, thanks, "say that again", what time it is.

English, with the commonest words of a few other languages. Knows neither Django nor LiveKit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from projects.providers.scripted.meaning import words


class Intent(StrEnum):
    """Something said that is no question about the agent's subject."""

    NOTHING = "nothing"
    GREETING = "greeting"
    HOW_ARE_YOU = "how_are_you"
    THANKS = "thanks"
    GOODBYE = "goodbye"
    WHO_ARE_YOU = "who_are_you"
    ARE_YOU_HUMAN = "are_you_human"
    NAME = "name"
    HELP = "help"
    REPEAT = "repeat"
    MORE = "more"
    TIME = "time"
    DATE = "date"
    YES = "yes"
    NO = "no"
    WAIT = "wait"


_OPENERS = re.compile(
    r"^(?:hello|hi|hey|hiya|howdy|greetings|good (?:morning|afternoon|evening|day)|hallo|guten (?:tag|morgen|abend)"
    r"|moin|bonjour|bonsoir|salut|hola|buenos dias|buenas (?:tardes|noches)|ciao|buongiorno|ola|hej)\b"
    r" ?(?:there|again|everyone)?"
)
_FILLERS = re.compile(
    r"^(?:please|ok|okay|well|so|and|but|um|uh|erm|er|hm|hmm|oh|ah|right|alright|now|then|also|actually|sorry"
    r"|excuse me|bitte|alors|pues|s il vous plait|por favor)\b ?"
)
_ENDINGS = re.compile(r" ?\b(?:please|thanks|thank you|okay|bitte|danke|s il vous plait|merci|por favor|gracias)$")

_POLITE = r"(?:(?:can|could|would|will) you (?:please )?|i would like you to |please )?"

# Each line is one wording (a regular expression for the whole utterance, without greeting and padding).
_WORDINGS: dict[Intent, tuple[str, ...]] = {
    Intent.HOW_ARE_YOU: (
        r"how are you(?: (?:doing|today|feeling|now))*",
        r"how is it going|how do you do|are you (?:ok|okay|well)",
        r"wie geht es (?:dir|ihnen)|comment (?:ca va|allez vous)|ca va|que tal|como estas?",
    ),
    Intent.THANKS: (
        r"(?:many |great |perfect |good |very good )?(?:thanks|thank you|cheers|danke|vielen dank|merci|gracias)"
        r"(?: (?:very much|a lot|so much|you|again|for your help|for that|that helps|schon|beaucoup))*",
    ),
    Intent.GOODBYE: (
        r"(?:thanks |thank you )?(?:good ?bye|bye|bye bye|see you(?: later| soon| tomorrow)?|good night)"
        r"(?: (?:then|now|for now|thanks|thank you))*",
        r"that (?:is|was|will be) all|i (?:have to|must|need to) go(?: now)?|have a nice day",
        r"auf wiedersehen|tschuss|au revoir|adios|hasta luego",
    ),
    Intent.WHO_ARE_YOU: (
        r"(?:and )?who (?:are|is) (?:you|this|there|speaking|that)",
        r"what is your name|what are you|what are you called|your name",
        _POLITE + r"(?:tell me your name|introduce yourself|tell me (?:about|who) (?:yourself|you are))",
        r"wer bist du|wer sind sie|wie heisst du|qui es tu|qui etes vous|quien eres",
    ),
    Intent.ARE_YOU_HUMAN: (
        r"are you (?:an? )?(?:real|human|person|robot|bot|machine|computer|ai|alive|artificial)\b.*",
        r"am i (?:talking|speaking) (?:to|with) .*\b(?:human|person|robot|machine|ai|bot|computer)",
    ),
    Intent.NAME: (r"(?:my name is|i am called) [^\W\d]+",),
    Intent.HELP: (
        rf"help(?: me)?|{_POLITE}help me|i need (?:some |your )?help|hilfe|aide(?: moi)?|ayuda",
        r"what can (?:you|i) (?:do|ask|say|tell)\b.*|how can you help(?: me)?|what do you do|was kannst du",
        r"what (?:do|can) you (?:know|help with|tell me|talk about|answer)(?: about)?",
        r"what are my options|what (?:should|could) i ask(?: you)?",
    ),
    Intent.REPEAT: (
        r"again|once (?:again|more)|one more time|pardon(?: me)?|what|what was that|come again|say what|tell me again",
        _POLITE + r"(?:repeat|say) ?(?:that|it|this|the last (?:one|bit|part|answer)|yourself|what you said)?"
        r"(?: (?:again|once more|one more time|please|for me|slowly|more slowly))*",
        r"what (?:did|have) you (?:just )?(?:say|said)",
        r"i (?:did|do|could|can) not (?:hear|understand|catch|get)(?: (?:that|you|it|what you said))?",
        r"noch ?mal|wie bitte|encore|repetez|repite|otra vez",
    ),
    Intent.MORE: (
        _POLITE + r"(?:tell me |say |explain |give me )?(?:a bit |some |a little )?more"
        r"(?: about (?:it|that|this|them))?(?: (?:detail|details|information|info))?",
        r"go on|continue|carry on|keep going|what else|anything else|is there (?:anything|something) (?:else|more)",
        r"(?:what|anything) else (?:can you tell me|do you know)",
        r"mehr|weiter|continuez|mas",
    ),
    Intent.YES: (r"yes|yeah|yep|sure|of course|certainly|yes i (?:do|would|want)|ja|oui|si|sim",),
    Intent.NO: (r"no|nope|no i do not|not really|not now|nothing(?: else)?|no that is (?:all|it)|nein|non",),
    Intent.WAIT: (
        r"(?:wait|stop|hold on|be quiet|quiet|silence|shut up|one moment|just a moment|wait a (?:minute|moment|second))"
        r"(?: (?:wait|stop|talking|a minute|a moment))*",
        r"stopp|warte|attendez|espera",
    ),
}
_PATTERNS = {intent: re.compile("^(?:" + "|".join(wordings) + ")$") for intent, wordings in _WORDINGS.items()}

_ASKING = words("what which tell do can could know say got have give")
_TIME_WORDS = set(words("time clock hour now current exact right it is the at moment here there please and"))
_DATE_WORDS = set(words("day date today todays week month year current it is the of this now please and we have"))
_SMALL = set(
    words("what which tell me you do does can could know say got have give would like to want i am my for a s")
)


@dataclass(frozen=True)
class Understanding:
    """What was said: the intent, if it is small talk, and `core`, the words without greeting and padding."""

    intent: Intent | None
    core: str
    greeted: bool


def understand(text: str) -> Understanding:
    """Split off greetings and padding and recognise small talk in what is left."""
    said = " ".join(words(text))
    core, greeted = _without_padding(said)
    if not core:
        return Understanding(_intent_of(said) or (Intent.GREETING if greeted else Intent.NOTHING), "", greeted)
    return Understanding(_intent_of(core) or _intent_of(said), core, greeted)


def _without_padding(said: str) -> tuple[str, bool]:
    greeted = False
    while True:
        if found := _OPENERS.match(said):
            greeted = True
        else:
            found = _FILLERS.match(said)
        if not found:
            break
        said = said[found.end() :].strip()
    return _ENDINGS.sub("", said) or said, greeted


def _intent_of(said: str) -> Intent | None:
    for intent, pattern in _PATTERNS.items():
        if pattern.match(said):
            return intent
    spoken = set(said.split())
    content = spoken - _SMALL
    if not spoken.isdisjoint(_ASKING) or len(spoken) <= 2:
        if content & {"time", "clock"} and content <= _TIME_WORDS and spoken.isdisjoint({"a", "for", "to"}):
            return Intent.TIME
        if content & {"day", "date"} and content <= _DATE_WORDS and "for" not in spoken:
            return Intent.DATE
    return None


def told_name(core: str) -> str:
    """The name in "my name is anna": "Anna"."""
    return core.split()[-1].capitalize() if core else ""


# --- what can be asked ----------------------------------------------------------------------------------------------

_TOPIC_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"^how much (?:does|do|is|are|will|would) (?:it|this|that|they)(?: cost)?$", "the price"),
        (r"^how much (?:does|do|is|are) (.+?)(?: cost)?$", r"the price of \1"),
        (r"^how (?:do|can|could|should|may) (?:i|we) (.+)$", r"how to \1"),
        (r"^(?:can|could|may|do) (?:i|we) (?:have to |need to )?(.+)$", r"how to \1"),
        (r"^(?:do you (?:have|offer|sell|serve)|is there|are there|have you got) (?:an? |any |some )?(.+)$", r"\1"),
        (r"^(?:when are you|what times? (?:are|do) you|when do you) open$", "the opening hours"),
        (r"^where (?:are you|is your \w+)(?: located| based)?$", "where to find us"),
        (r"^(where|when) (is|are) ((?:the |your |my )?\w+)$", r"\1 \3 \2"),
        (r"^(?:what|who) (?:is|are) your (?!name)(.+)$", r"our \1"),
        (r"^(?:what|who) (?:is|are) (?!you\b|your\b)(.+?)(?: like)?(?: (?:today|tomorrow|now))?$", r"\1"),
        (r"^tell me (?:more )?about (.+)$", r"\1"),
        (r"^i (?:would like|want|need) to (.+?)(?: now)?$", r"how to \1"),
    )
)
_POINTERS = frozenset(["i", "you", "me", "us", "it", "this", "that", "they", "them", "he", "she", "we"])
_SWAPS = {"my": "your", "me": "you", "i": "you", "your": "our", "you": "us"}


def topic_of(question: str) -> str:
    """What a question is about, to be put after "I can tell you about": "What is the price?" -> "the price".

    "" when the question does not lend itself to that.
    """
    first = re.split(r"[|\n,;?!]", question)[0].strip().rstrip(". ")
    for pattern, replacement in _TOPIC_RULES:
        if found := pattern.match(first):
            topic = found.expand(replacement)
            if topic.lower() in _POINTERS:
                return ""
            return " ".join(_SWAPS.get(word.lower(), word) for word in topic.split())
    return "" if "?" in question or "," in question or len(first.split()) > 5 else first


def listed(items: Sequence[str], joiner: str) -> str:
    """["a", "b", "c"] -> "a, b or c"."""
    return f"{', '.join(items[:-1])} {joiner} {items[-1]}" if len(items) > 1 else "".join(items)
