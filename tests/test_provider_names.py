"""What is peculiar to a provider stands in its home, the module or folder that its class is in. Read from the source.

Others ask its class (`last_resort`, `takes_base_url`, ...): neither its name stands in their code nor do they import
its home. The registry and the default chain name providers because that is what they are; who else may is listed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from projects.providers import PROVIDERS, get_provider
from tests.test_imports import imports_in, package_of, trees

HOMES = {name: path.rpartition(".")[0].removesuffix(".provider") for name, path in PROVIDERS.items()}
REGISTRY = "projects.providers"
DEFAULT_CHAIN = ("avatars.services", "default_pipeline")

ALLOWED = {
    # The recogniser's server is the other half of its home: it hears with the same weights and gates.
    ("agent_runtime.speech", "faster_whisper"): "the server itself",
    ("agent_runtime.management.commands.run_speech", "faster_whisper"): "starts the server",
    ("agent_runtime.management.commands.measure_stt", "faster_whisper"): "measures what the server hears",
    ("molts.management.commands.speech_models", "faster_whisper"): "lists and fetches Whisper's sizes",
    ("molts.doctor_checks.speech", "faster_whisper"): "asks the server how it is",
    ("molts.metrics", "faster_whisper"): "asks the server how it is",
    ("molts.admin.speech_figures", "faster_whisper"): "asks the server how it is",
    # An agent's questions and answers are the scripted model's own: no other answers from them.
    ("sessions.admin.agents", "scripted"): "tries a question on the answers that are being written",
}
"""(module or folder, provider): why it knows that one."""


def is_within(module: str, folder: str) -> bool:
    return module == folder or module.startswith(f"{folder}.")


def owner_of(module: str) -> str | None:
    """The provider in whose home a module is."""
    return next((name for name, home in HOMES.items() if is_within(module, home)), None)


def derives_from(provider: str | None, other: str) -> bool:
    """Whether one provider is a case of the other, as Groq is of a server that speaks OpenAI's protocol."""
    return provider is not None and isinstance(get_provider(provider), type(get_provider(other)))


def named(tree: ast.AST, module: str, package: str) -> Iterator[tuple[int, str]]:
    """Where a module names a provider: line and provider. `"espeak"`, `"projects.providers.espeak.tts.EspeakTTS"` and
    every way to import from its home."""
    in_default_chain = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and (module, node.name) == DEFAULT_CHAIN
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in in_default_chain:
            provider = node.value if node.value in PROVIDERS else owner_of(node.value)
            if provider is not None:
                yield node.lineno, provider
    for each in imports_in(tree, module, package):
        if (provider := owner_of(each.imported)) is not None:
            yield each.line, provider


def strangers(tree: ast.AST, module: str, package: str) -> Iterator[tuple[int, str]]:
    """Where it names one that is not its own, nor the one that its own derives from."""
    own = owner_of(module)
    for line, provider in named(tree, module, package):
        if provider != own and not derives_from(own, provider):
            yield line, provider


@cache
def found() -> list[tuple[str, int, str]]:
    return [
        (module, line, provider)
        for module, tree in trees().items()
        if module != REGISTRY
        for line, provider in strangers(tree, module, package_of(module))
    ]


def allowance(module: str, provider: str) -> tuple[str, str] | None:
    return next((key for key in ALLOWED if is_within(module, key[0]) and provider == key[1]), None)


def test_nobody_names_a_provider_outside_its_home() -> None:
    wrong = [each for each in found() if allowance(each[0], each[2]) is None]
    assert not wrong, "".join(f"\n{module}:{line} knows {provider}" for module, line, provider in wrong)


def test_every_allowance_is_needed() -> None:
    assert {allowance(module, provider) for module, _, provider in found()} == set(ALLOWED)


def test_each_provider_has_a_home_of_its_own() -> None:
    assert len(set(HOMES.values())) == len(PROVIDERS)
    assert all(home in trees() for home in HOMES.values())
    assert not [name for name, home in HOMES.items() if owner_of(home) != name]


def test_what_is_shared_knows_no_vendor() -> None:
    shared = [module for module in trees() if is_within(module, f"{REGISTRY}.shared")]
    assert len(shared) > 10
    assert not [each for each in found() if each[0] in shared]


@pytest.mark.parametrize(
    ("source", "provider"),
    [
        ('if rung.provider == "pocketsphinx": warn()', "pocketsphinx"),
        ('match rung.provider:\n    case "espeak": pass', "espeak"),
        ('LOCAL = {"supertonic": 1}', "supertonic"),
        ("from projects.providers import faster_whisper", "faster_whisper"),
        ("from projects.providers.scripted.responder import Responder", "scripted"),
        ("from projects.providers.openai_compatible import provider", "openai_compatible"),
        ("from projects.providers.hosted import heygen", "heygen"),
        ("import projects.providers.ollama", "ollama"),
        ("def late():\n    from projects.providers.groq import Groq", "groq"),
        ('import_module("projects.providers.hosted.tavus")', "tavus"),
        ("def default_pipeline():\n    return ['espeak']", "espeak"),
    ],
)
def test_it_sees_a_name(source: str, provider: str) -> None:
    """The test's own eyes."""
    assert [found for _, found in strangers(ast.parse(source), "avatars.anything", "avatars")] == [provider]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("avatars.services", "def default_pipeline():\n    return ['espeak']"),
        ("projects.providers.espeak.options", 'KEY = "espeak"'),
        ("projects.providers.groq", "from projects.providers.openai_compatible.provider import OpenAICompatible"),
        ("avatars.anything", "from projects.providers.shared.speaking import speak"),
        ("avatars.anything", "import faster_whisper"),  # the library
        ("avatars.anything", 'text = "espeak-ng speaks"'),
    ],
)
def test_it_leaves_alone_what_is_none(module: str, source: str) -> None:
    assert not list(strangers(ast.parse(source), module, module.rpartition(".")[0]))
