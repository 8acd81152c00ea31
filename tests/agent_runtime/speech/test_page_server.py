"""The server of docs/speech.md that stands between a web page and the speech API."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.agent_runtime.speech.micro_server import SECRET
from tests.agent_runtime.speech.voices import SENTENCES
from tests.agent_runtime.stack import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def page_server(speech_server: tuple[subprocess.Popen[bytes], str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The documented program, with the address of the test's speech server."""
    blocks: list[str] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "speech.md").read_text(), re.DOTALL)
    (program,) = [block for block in blocks if "page_server.py" in block]
    assert "http://127.0.0.1:8010/v1" in program
    monkeypatch.setitem(os.environ, "MOLTS_SPEECH_SECRET", SECRET)
    names: dict[str, Any] = {}
    exec(program.replace("http://127.0.0.1:8010/v1", speech_server[1]), names)  # noqa: S102 - our own documentation
    return names["app"]


async def post(app: Any, files: dict[str, Any]) -> httpx2.Response:
    headers = {"origin": "https://shop.example"}
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="https://shop.example") as page:
        return await page.post("/transcribe", files=files, headers=headers, timeout=100)


@pytest.mark.parametrize("kind", ["webm", "ogg"])
async def test_a_page_is_heard_through_it(page_server: Any, spoken: dict[str, Path], kind: str) -> None:
    answer = await post(page_server, {"file": (f"recording.{kind}", spoken[kind].read_bytes())})

    assert (answer.status_code, answer.json()) == (200, {"text": SENTENCES[0]})
    assert SECRET not in answer.text + str(answer.headers)


async def test_it_takes_no_more_than_it_says(page_server: Any) -> None:
    answer = await post(page_server, {"file": ("large.wav", bytes(25_000_001))})

    assert answer.status_code == 413


def test_a_page_itself_is_refused_even_with_the_secret_in_reach(
    speech_server: tuple[subprocess.Popen[bytes], str], spoken: dict[str, Path]
) -> None:
    asks_first = httpx2.options(
        f"{speech_server[1]}/audio/transcriptions",
        headers={"origin": "https://shop.example", "access-control-request-method": "POST"},
    )

    assert asks_first.status_code == 403
    assert "access-control-allow-origin" not in asks_first.headers
    assert "through a server" in (ROOT / "docs" / "speech.md").read_text()
