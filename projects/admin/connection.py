"""A connection test of a provider key, and how its outcome is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest

from molts.errors import MoltsError
from projects import addresses
from projects.audit import record_action
from projects.models import ProviderKey
from projects.probes import KindProbe, check_probe_rate, probe_connection
from projects.providers import get_provider
from projects.providers.base import Credentials
from projects.scoped_admin import runs_server


@dataclass(frozen=True)
class Outcome:
    """Of a connection test: what each call gave, or why none was made."""

    probes: Sequence[KindProbe] = ()
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error and all(probe.result.ok for probe in self.probes)

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "error": self.error,
            "results": [
                {
                    "label": probe.label,
                    "verdict": probe.verdict,
                    "ok": probe.result.ok,
                    "text": probe.result.text,
                    "latency_ms": probe.result.latency_ms,
                }
                for probe in self.probes
            ],
        }


def stored_credentials(key: ProviderKey) -> Credentials:
    return Credentials(api_key=key.reveal() if key.secret_cipher else "", base_url=key.base_url)


def try_connection(request: HttpRequest, choose: Callable[[], tuple[ProviderKey, Credentials]]) -> Outcome:
    try:
        check_probe_rate(request)
        key, credentials = choose()
        probes = probe_connection(provider=get_provider(key.provider), credentials=credentials)
    except MoltsError as error:
        return Outcome(error=error.detail)
    if not key._state.adding:
        said = ", ".join(f"{probe.label.lower()} {probe.verdict}" for probe in probes)
        record_action(request_user=request.user, obj=key, text=f"Tested the connection: {said}.")
    url = addresses.called_address(key.provider, credentials)
    shown = runs_server(request)
    return Outcome([probe.retold(addresses.with_setting(probe.result.text, url, shown=shown)) for probe in probes])


def tell(request: HttpRequest, outcome: Outcome) -> None:
    if outcome.error:
        messages.error(request, outcome.error)
    for probe in outcome.probes:
        messages.add_message(request, messages.SUCCESS if probe.result.ok else messages.ERROR, str(probe))
