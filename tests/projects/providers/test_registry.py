from __future__ import annotations

import subprocess
import sys

import pytest

from avatars.services import default_pipeline
from molts.errors import BadConfiguration
from projects.providers import PROVIDERS, get_provider, last_resort, providers_for
from projects.providers.base import PIPELINE, Credentials, Kind, Options, Provider


@pytest.mark.parametrize("key", PROVIDERS)
def test_every_provider_describes_itself(key: str) -> None:
    provider = get_provider(key)
    assert isinstance(provider, Provider)
    assert provider.key == key
    assert provider.label
    assert provider.kinds
    for kind in provider.kinds:
        schema = provider.options[kind]
        assert issubclass(schema, Options)
        provider.parse_options(kind, {})  # defaults are valid
        schema.model_json_schema()  # a form can be made of it
        with pytest.raises(BadConfiguration, match="no_such_option"):
            provider.parse_options(kind, {"no_such_option": 1})


def test_an_unknown_provider_is_named_with_the_known_ones() -> None:
    with pytest.raises(BadConfiguration, match=r"no provider 'whispr'.*faster_whisper"):
        get_provider("whispr")


def test_each_kind_has_a_provider_that_needs_no_account() -> None:
    for kind in PIPELINE:
        assert any(provider.local for provider in providers_for(kind))
        assert all(kind in provider.kinds for provider in providers_for(kind))


@pytest.mark.parametrize("kind", PIPELINE)
def test_each_kind_has_one_last_resort_and_the_default_chain_ends_with_it(kind: Kind) -> None:
    assert [provider for provider in providers_for(kind) if provider.last_resort] == [last_resort(kind)]
    assert default_pipeline()[kind][-1].provider == last_resort(kind).key


def test_who_has_an_address_of_its_own_takes_another() -> None:
    providers = list(map(get_provider, PROVIDERS))
    assert not [provider.key for provider in providers if provider.default_base_url and not provider.takes_base_url]
    assert [provider.key for provider in providers if not provider.takes_key] == [
        *("faster_whisper", "pocketsphinx", "scripted", "supertonic", "espeak"),
    ]


def test_a_provider_refuses_kinds_it_does_not_serve() -> None:
    with pytest.raises(BadConfiguration, match="cannot be used for llm"):
        get_provider("espeak").parse_options(Kind.LLM, {})


def test_listing_providers_loads_nothing_heavy() -> None:
    heavy = ("livekit.agents", "openai", "numpy", "faster_whisper", "pocketsphinx", "supertonic", "huggingface_hub")
    code = (
        "import django; django.setup()\n"
        "from projects.providers import PROVIDERS, get_provider\n"
        "[get_provider(key) for key in PROVIDERS]\n"
        "import sys\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_credentials_never_print_themselves() -> None:
    assert "sk-secret" not in repr(Credentials(api_key="sk-secret"))
