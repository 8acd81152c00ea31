"""`manage.py probe_providers`: does every key and every local program really work?"""

from __future__ import annotations

import asyncio
import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.management.base import BaseCommand

from molts.errors import MoltsError
from projects.models import ProviderKey
from projects.providers import PROVIDERS, get_provider
from projects.providers.base import Credentials, Kind, ProbeResult, Provider

DEADLINE_SECONDS = 40.0  # a local model may have to be loaded first


@dataclass(frozen=True)
class Probe:
    """One thing to try: a provider's kind with the key of a project, or without one."""

    provider: Provider
    kind: Kind
    key: ProviderKey | None

    @property
    def name(self) -> str:
        owner = f" ({self.key.project}: {self.key.name})" if self.key else ""
        return f"{self.provider.key} {self.kind.value}{owner}"


class Command(BaseCommand):
    help = "Make one small real call with every provider key and local program, and show what comes back."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("providers", nargs="*", help=f"only these: {', '.join(PROVIDERS)}")
        parser.add_argument("--json", action="store_true", help="print one JSON object a line")

    def handle(self, *args: Any, **options: Any) -> None:
        failed = False
        for probe in list(_probes(options["providers"])):
            result = _run(probe)
            failed = failed or (not result.ok and probe.key is not None)
            self._show(probe, result, as_json=options["json"])
        if failed:
            sys.exit(1)

    def _show(self, probe: Probe, result: ProbeResult, *, as_json: bool) -> None:
        if as_json:
            said = {"name": probe.name, "ok": result.ok, "text": result.text, "latency_ms": result.latency_ms}
            self.stdout.write(json.dumps(said))
            return
        took = f"  {result.latency_ms} ms" if result.latency_ms is not None else ""
        self.stdout.write(f"{'ok    ' if result.ok else 'FAILED'}  {probe.name}: {result.text}{took}")


def _probes(names: list[str]) -> Iterator[Probe]:
    """Local programs, then every stored key, for each kind the provider serves. Raises BadConfiguration for a name that
    is no provider's."""
    chosen = [get_provider(name) for name in names or PROVIDERS]
    for provider in chosen:
        keys: list[ProviderKey | None] = list(
            ProviderKey.objects.filter(provider=provider.key).select_related("project")
        )
        if provider.local:
            keys.insert(0, None)
        for key in keys:
            for kind in sorted(provider.kinds):
                yield Probe(provider, kind, key)


def _run(probe: Probe) -> ProbeResult:
    """What came back; an error of ours is a result too."""
    try:
        key = probe.key
        credentials = Credentials(api_key=key.reveal(), base_url=key.base_url) if key else Credentials()
        call = probe.provider.probe(
            probe.kind, options=probe.provider.parse_options(probe.kind, {}), credentials=credentials
        )
        return asyncio.run(asyncio.wait_for(call, DEADLINE_SECONDS))
    except TimeoutError:
        return ProbeResult(False, f"no answer within {DEADLINE_SECONDS:.0f} s")
    except MoltsError as error:
        return ProbeResult(False, error.detail)
