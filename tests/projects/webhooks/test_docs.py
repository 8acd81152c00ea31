"""The examples of docs/webhooks.md, taken from the page and run as a reader would run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from projects.models import ApiKey, Project
from projects.webhooks.choices import TEST_TYPE, EventType
from projects.webhooks.models import WebhookDelivery
from projects.webhooks.signing import new_secret, signed_headers
from tests.agent_runtime.stack import ROOT, end, free_port, wait_for
from tests.projects.webhooks.receiver import Receiver

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

PAGE = (ROOT / "docs" / "webhooks.md").read_text()
REST = (ROOT / "docs" / "rest.md").read_text()
BODY = '{"type":"session.ended","data":{"name":"Grüße"}}'


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.M | re.S)


def test_the_page_names_every_type() -> None:
    for name in (*EventType.values, TEST_TYPE):
        assert f"`{name}`" in PAGE


# -- Receivers --------------------------------------------------------------------------------------------------------
def as_python(folder: Path) -> list[str]:
    (folder / "receiver.py").write_text(blocks(PAGE, "py")[0])
    return [sys.executable, "receiver.py"]


def as_javascript(folder: Path) -> list[str]:
    (folder / "receiver.mjs").write_text(blocks(PAGE, "js")[0])
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    return ["node", "receiver.mjs"]


def as_go(folder: Path) -> list[str]:
    if shutil.which("go") is None:
        pytest.skip("there is no Go here")
    (folder / "main.go").write_text(blocks(PAGE, "go")[0])
    subprocess.run(["go", "build", "-o", "receiver", "main.go"], cwd=folder, check=True)
    return [str(folder / "receiver")]


def post(url: str, headers: dict[str, str], body: str) -> int:
    return httpx2.post(url, content=body.encode(), headers=headers, trust_env=False).status_code


@contextmanager
def running(command: list[str], folder: Path, secret: str) -> Iterator[str]:
    port = free_port()
    env = {**os.environ, "PORT": str(port), "WEBHOOK_SECRET": secret}
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        with suppress(httpx2.HTTPError):
            return post(url, {}, "{}") == 400
        return False

    try:
        wait_for("the receiver", answers, seconds=30)
        yield url
    finally:
        end(process)


@pytest.mark.timeout(600)  # Go may have to build its own library first
@pytest.mark.parametrize("language", [as_python, as_javascript, as_go], ids=["python", "javascript", "go"])
def test_a_receiver_takes_what_is_genuine_and_nothing_else(
    language: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    secret, other, now = new_secret(), new_secret(), timezone.now()

    def signed(*secrets: str, late: int = 0) -> dict[str, str]:
        moment = now - timedelta(seconds=late)
        return signed_headers(event_id="one", body=BODY, secrets=secrets, now=moment)

    with running(language(tmp_path), tmp_path, secret) as url:
        assert post(url, signed(secret), BODY) == 204
        assert post(url, signed(other, secret), BODY) == 204
        assert post(url, signed(other), BODY) == 400
        assert post(url, signed(secret), BODY.replace("Grüße", "Grusse")) == 400
        assert post(url, signed(secret, late=400), BODY) == 400


# -- REST -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def env(
    live_servers: object, live_server: LiveServer, api_key: tuple[ApiKey, str], receiver: Receiver, project: Project
) -> dict[str, str]:
    return {**os.environ, "MOLTS_URL": live_server.url, "MOLTS_KEY": api_key[1], "RECEIVER": receiver.url}


def run(command: list[str], env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_curl_examples_work(env: dict[str, str], tmp_path: Path, receiver: Receiver) -> None:
    said = run(["bash", "-euc", "\n".join(blocks(PAGE, "sh"))], env, tmp_path)
    assert said.count("whsec_") == 3
    assert '"errors"' not in said
    assert len(receiver.received) == 1
    assert WebhookDelivery.objects.get().state == "waiting", "it is sent again"


def test_the_python_examples_work(env: dict[str, str], tmp_path: Path) -> None:
    beginning = "import httpx2, sys; sys.modules['httpx'] = httpx2\n" + blocks(REST, "python")[0]
    (tmp_path / "example.py").write_text("\n".join([beginning, *blocks(PAGE, "python")]))
    said = run([sys.executable, "example.py"], env, tmp_path)
    assert "keep this: whsec_" in said
    assert "test: delivered 200 thank you" in said
    assert "new secret: whsec_" in said


def test_the_typescript_examples_work(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "example.ts").write_text("\n".join([blocks(REST, "ts")[0], *blocks(PAGE, "ts")]))
    esbuild = str(ROOT / "node_modules" / ".bin" / "esbuild")
    run([esbuild, "example.ts", "--format=esm", "--target=es2022", "--outfile=example.mjs"], env, tmp_path)
    said = run(["node", "example.mjs"], env, tmp_path)
    assert "keep this: whsec_" in said
    assert "test: delivered 200 thank you" in said
    assert "new secret: whsec_" in said
