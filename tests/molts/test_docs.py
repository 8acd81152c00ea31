"""The documentation: what it says about variables and options is what the code has, and the site is whole."""

from __future__ import annotations

import ast
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.test import Client
from pytest_django import Settings

from projects.providers import PROVIDERS, get_provider
from scripts.option_tables import renew

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
# Calls that read a variable by the name given first.
READERS = {
    *("text", "flag", "number", "words", "url", "choice", "rate", "window", "networks", "origins", "host", "secret"),
    *("addresses", "even", "has"),
}
# Not for people to set: `up` tells its own parts, and the doctor, where they are.
INTERNAL = {"MOLTS_MEDIA_UDP_PORT", "MOLTS_MEDIA_TCP_PORT"}


def variables_read() -> set[str]:
    """Names of variables that settings and supervisor ask for."""
    found = set()
    supervisor = ROOT / "molts" / "supervisor"
    for file in (ROOT / "molts" / "settings.py", supervisor / "stack.py", supervisor / "servers.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            name = node.args[0]
            is_reader = node.func.attr in READERS or node.func.attr == "get"
            if is_reader and isinstance(name, ast.Constant) and re.fullmatch(r"[A-Z][A-Z0-9_]+", str(name.value)):
                found.add(str(name.value))
    return found


def variables_described() -> set[str]:
    """Names in the first cells of the tables, and those that stand for others."""
    text = (DOCS / "environment.md").read_text()
    cells = re.findall(r"^\| (`[^|]+`\)?) \|", text, re.M)
    return set(re.findall(r"`([A-Z][A-Z0-9_]+)`", "\n".join(cells)))


# -- What it says is what the code has -------------------------------------------------------------------------------
def test_every_variable_is_described_and_no_other() -> None:
    assert {"MOLTS_PORT", "SECRET_KEY", "MOLTS_NODE_IP", "WHISPER_MODEL"} <= variables_read()  # the search finds

    assert variables_described() == variables_read() - INTERNAL


def test_defaults_of_numbers_are_those_of_the_settings() -> None:
    described = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", (DOCS / "environment.md").read_text(), re.M))
    source = (ROOT / "molts" / "settings.py").read_text()
    given = dict(re.findall(r'env\.number\("(\w+)", (\d[\d_]*)', source))

    checked = {name: value for name, value in given.items() if name in described}

    assert checked
    assert {name: int(described[name]) for name in checked} == {n: int(v) for n, v in checked.items()}


def test_every_provider_has_a_section_and_its_options() -> None:
    text = (DOCS / "providers.md").read_text()

    assert {key for key in PROVIDERS if f"\n### {key}\n" not in text} == set()
    assert set(re.findall(r"^\| \[`(\w+)`\]", text, re.M)) == set(PROVIDERS)
    described = set(re.findall(r"<!-- options: (\w+) (\w+) -->", text))
    schemas = {
        get_provider(key).options[kind]: (key, kind.value)
        for key in reversed(PROVIDERS)
        for kind in get_provider(key).options
    }
    documented = {get_provider(key).options[kind] for key, kind in described}
    assert set(schemas) == documented


def test_option_tables_are_those_of_the_schemas() -> None:
    text = (DOCS / "providers.md").read_text()

    assert renew(text) == text, "run: make exports"


def test_a_changed_table_would_be_noticed() -> None:
    text = (DOCS / "providers.md").read_text()

    assert renew(text.replace("| `beam_size` | `1` |", "| `beam_size` | `2` |")) == text


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}" for name in PAGES)])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    file = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", file.read_text()):
        if not re.match(r"https?:|#|/", target):
            assert (file.parent / target.split("#")[0]).exists(), target


def test_commands_that_are_named_exist() -> None:
    from django.core.management import get_commands

    known = set(get_commands())
    for name in ["../README.md", *PAGES]:
        for command in re.findall(r"manage\.py (\w+)", (DOCS / name).read_text()):
            assert command in known, f"{name}: manage.py {command}"


# -- The site --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", "-d", str(folder / "trees"), "docs"]
    done = subprocess.run(
        [*command, str(folder / "html")], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.mark.slow
def test_the_site_has_every_page_in_its_contents(site: Path) -> None:
    contents = (site / "index.html").read_text()

    for page in PAGES:
        name = page.removesuffix(".md")
        assert (site / f"{name}.html").exists()
        assert f'href="{name}.html"' in contents or name == "index"


@pytest.mark.slow
def test_its_pages_need_nothing_from_elsewhere_and_hold_no_inline_code(site: Path) -> None:
    for page in site.glob("*.html"):
        html = page.read_text()
        assert not re.search(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//', html), page
        assert not re.search(r'<link[^>]+rel="stylesheet"[^>]+href="(?:https?:)?//', html), page
        assert not re.search(r"<script(?![^>]*\bsrc=)", html), page
        assert not re.search(r"<style|\sstyle=|\son\w+=", html), page


@pytest.mark.slow
def test_search_knows_words_of_the_pages(site: Path) -> None:
    index = (site / "searchindex.js").read_text()

    assert "tailscal" in index
    assert "livekit_public_url" in index.lower()


@pytest.mark.slow
def test_llms_txt_names_every_page_and_they_are_there(site: Path) -> None:
    text = (site / "llms.txt").read_text()
    links = re.findall(r"\]\(/docs/([^)]+)\): (.+)", text)

    assert {link for link, _ in links} == {f"_sources/{page}.txt" for page in PAGES if page != "index.md"}
    assert all((site / link).exists() and about.endswith((".", ":")) for link, about in links)


# -- Served by the running copy --------------------------------------------------------------------------------------
@pytest.mark.slow
def test_it_serves_the_site_with_a_policy_without_exceptions(site: Path, settings: Settings, client: Client) -> None:
    settings.MOLTS_DOCS_DIR = site

    page = client.get("/docs/")

    assert b"molts" in b"".join(page.streaming_content)  # type: ignore[attr-defined]
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert client.get("/docs/rest.html").status_code == 200
    assert client.get("/llms.txt").headers["Content-Type"] == "text/plain; charset=utf-8"
    assert client.get("/docs").headers["Location"] == "/docs/"


@pytest.mark.slow
def test_it_serves_nothing_outside_the_site(site: Path, settings: Settings, client: Client) -> None:
    settings.MOLTS_DOCS_DIR = site

    assert client.get("/docs/../manage.py").status_code == 400
    assert client.get("/docs/%2e%2e/trees/environment.pickle").status_code == 400
    assert client.get("/docs/nothing.html").status_code == 404
    assert client.get(f"/docs/{'a' * 5_000}").status_code == 404
    assert client.post("/docs/").status_code == 405


def test_it_says_how_to_build_a_site_that_is_not_there(settings: Settings, client: Client, tmp_path: Path) -> None:
    settings.MOLTS_DOCS_DIR = tmp_path

    page = client.get("/docs/")

    assert page.status_code == 404
    assert "make docs" in page.content.decode()


def test_the_site_is_where_set_up_puts_it() -> None:
    from scripts.docs import SITE

    assert SITE == django_settings.MOLTS_DOCS_DIR


@pytest.mark.slow
def test_make_docs_shows_the_site_and_ends_on_ctrl_c() -> None:
    process = subprocess.Popen(
        [sys.executable, "scripts/docs.py", "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line
        with urllib.request.urlopen(found[0], timeout=10) as answer:  # noqa: S310 - on loopback
            assert b"<title>molts" in answer.read()

        process.send_signal(signal.SIGINT)

        assert process.wait(10) == 0
    finally:
        process.kill()
