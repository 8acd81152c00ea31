"""What the scripted answers say beside the agent's own: replies to small talk by language, time and date in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Phrases:
    """Replies in one language. `{topics}`, `{name}` and `{example}` are filled in."""

    hello: str
    hello_again: str
    nothing: str
    how_are_you: str
    thanks: str
    goodbye: str
    who: str
    who_nameless: str
    not_human: str
    nice_to_meet: str
    topics: str
    example: str
    unknown: str
    nothing_to_repeat: str
    no_more: str
    go_ahead: str
    no: str
    wait: str
    still_there: str
    joiner: str


PHRASES = {
    "en": Phrases(
        hello="Hello! What would you like to know?",
        hello_again="Hello again. What would you like to know?",
        nothing="Sorry, I did not catch that.",
        how_are_you="I am fine, thank you. What can I do for you?",
        thanks="You are welcome.",
        goodbye="Goodbye, and thank you for the talk.",
        who="I am {name}, a virtual assistant.",
        who_nameless="I am a virtual assistant.",
        not_human="I am not a human. I am a computer program that answers questions.",
        nice_to_meet="Nice to meet you, {name}.",
        topics="I can tell you about {topics}.",
        example="You can ask me, for example: {example}",
        unknown="I do not know that.",
        nothing_to_repeat="I have not said anything yet.",
        no_more="That is all I know about it.",
        go_ahead="Go ahead, ask me.",
        no="All right.",
        wait="All right, I will wait.",
        still_there="Is there anything else you would like to know?",
        joiner="or",
    ),
    "de": Phrases(
        hello="Hallo! Was möchten Sie wissen?",
        hello_again="Hallo noch einmal. Was möchten Sie wissen?",
        nothing="Entschuldigung, das habe ich nicht verstanden.",
        how_are_you="Mir geht es gut, danke. Was kann ich für Sie tun?",
        thanks="Gern geschehen.",
        goodbye="Auf Wiedersehen und danke für das Gespräch.",
        who="Ich bin {name}, ein virtueller Assistent.",
        who_nameless="Ich bin ein virtueller Assistent.",
        not_human="Ich bin kein Mensch, sondern ein Programm, das Fragen beantwortet.",
        nice_to_meet="Freut mich, {name}.",
        topics="Ich kann Ihnen etwas sagen über: {topics}.",
        example="Sie können mich zum Beispiel fragen: {example}",
        unknown="Das weiß ich nicht.",
        nothing_to_repeat="Ich habe noch nichts gesagt.",
        no_more="Mehr weiß ich darüber nicht.",
        go_ahead="Fragen Sie nur.",
        no="In Ordnung.",
        wait="In Ordnung, ich warte.",
        still_there="Möchten Sie noch etwas wissen?",
        joiner="oder",
    ),
    "fr": Phrases(
        hello="Bonjour ! Que voulez-vous savoir ?",
        hello_again="Rebonjour. Que voulez-vous savoir ?",
        nothing="Pardon, je n'ai pas compris.",
        how_are_you="Je vais bien, merci. Que puis-je faire pour vous ?",
        thanks="Je vous en prie.",
        goodbye="Au revoir et merci pour la conversation.",
        who="Je suis {name}, une assistance virtuelle.",
        who_nameless="Je suis une assistance virtuelle.",
        not_human="Je ne suis pas humain. Je suis un programme qui répond aux questions.",
        nice_to_meet="Enchanté, {name}.",
        topics="Je peux vous parler de : {topics}.",
        example="Vous pouvez me demander par exemple : {example}",
        unknown="Je ne le sais pas.",
        nothing_to_repeat="Je n'ai encore rien dit.",
        no_more="C'est tout ce que j'en sais.",
        go_ahead="Allez-y, posez votre question.",
        no="D'accord.",
        wait="D'accord, j'attends.",
        still_there="Voulez-vous savoir autre chose ?",
        joiner="ou",
    ),
    "es": Phrases(
        hello="¡Hola! ¿Qué le gustaría saber?",
        hello_again="Hola de nuevo. ¿Qué le gustaría saber?",
        nothing="Perdón, no lo he entendido.",
        how_are_you="Estoy bien, gracias. ¿En qué puedo ayudarle?",
        thanks="De nada.",
        goodbye="Adiós y gracias por la conversación.",
        who="Soy {name}, un asistente virtual.",
        who_nameless="Soy un asistente virtual.",
        not_human="No soy una persona. Soy un programa que responde preguntas.",
        nice_to_meet="Encantado, {name}.",
        topics="Puedo hablarle de: {topics}.",
        example="Puede preguntarme, por ejemplo: {example}",
        unknown="Eso no lo sé.",
        nothing_to_repeat="Todavía no he dicho nada.",
        no_more="Es todo lo que sé de eso.",
        go_ahead="Adelante, pregunte.",
        no="De acuerdo.",
        wait="De acuerdo, espero.",
        still_there="¿Quiere saber algo más?",
        joiner="o",
    ),
}


def phrases_for(language: str) -> Phrases:
    """Replies for a language tag; English where there is no table."""
    return PHRASES.get(language.casefold().replace("_", "-").split("-")[0], PHRASES["en"])


# --- time and date ------------------------------------------------------------------------------------------------

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
_MONTHS = "January February March April May June July August September October November December"


def number_in_words(number: int) -> str:
    """0 to 99 in English words: 21 -> "twenty-one"."""
    if number < 20:
        return _ONES.split()[number]
    tens, ones = divmod(number, 10)
    return _TENS.split()[tens] + (f"-{_ONES.split()[ones]}" if ones else "")


def ordinal_in_words(number: int) -> str:
    """1 to 99: 21 -> "twenty-first"."""
    head, dash, last = number_in_words(number).rpartition("-")
    return head + dash + _ORDINALS.get(last, f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")


def time_in_words(now: datetime, language: str) -> str:
    """A sentence with the time: "It is three twenty in the afternoon."."""
    code = language.casefold().split("-")[0]
    digits = f"{now.hour}:{now.minute:02d}"
    if code in ("de", "fr", "es"):
        return {"de": f"Es ist {digits} Uhr.", "fr": f"Il est {digits}.", "es": f"Son las {digits}."}[code]
    if now.minute == 0 and now.hour in (0, 12):
        return f"It is {'noon' if now.hour else 'midnight'}."
    hour = number_in_words(now.hour % 12 or 12)
    minute = f" {'oh ' if now.minute < 10 else ''}{number_in_words(now.minute)}" if now.minute else " o'clock"
    return f"It is {hour}{minute} {_part_of_day(now.hour)}."


def _part_of_day(hour: int) -> str:
    if hour < 12:
        return "in the morning"
    if hour < 18:
        return "in the afternoon"
    return "in the evening" if hour < 22 else "at night"


def date_in_words(now: datetime, language: str) -> str:
    """A sentence with the date: "Today is Saturday, the twenty-first of November, twenty twenty-six."."""
    code = language.casefold().split("-")[0]
    if code in ("de", "fr", "es"):
        digits = f"{now.day}.{now.month}.{now.year}" if code == "de" else f"{now.day}/{now.month}/{now.year}"
        return {"de": f"Heute ist der {digits}", "fr": f"Nous sommes le {digits}.", "es": f"Hoy es {digits}."}[code]
    century, rest = divmod(now.year, 100)
    year = f"{number_in_words(century)} {number_in_words(rest) if rest > 9 else f'oh {number_in_words(rest)}'}"
    day = ordinal_in_words(now.day)
    return f"Today is {_WEEKDAYS.split()[now.weekday()]}, the {day} of {_MONTHS.split()[now.month - 1]}, {year}."
