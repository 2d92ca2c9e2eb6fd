"""docs/secrets.md says what the code does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from callgate.config.document import parse as parse_config
from callgate.vault.delivery import deliver, resolve_headers
from callgate.vault.fields import MOST_BYTES
from callgate.vault.known_tokens import HOSTS
from callgate.vault.reference import FORMS, MOST_CHARACTERS, SCHEMES, is_reference, parse
from callgate.vault.session import MOST_CACHED_S

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "secrets.md").read_text()


def test_every_form_is_in_the_table_and_can_be_read() -> None:
    forms: list[str] = re.findall(r"^\| `([a-z]+://[^`]*)` \|", PAGE, re.MULTILINE)
    assert {form.partition(":")[0] for form in forms} == set(SCHEMES)
    for form in forms:
        assert parse(form.replace("version=N", "version=1")).text
    for form in FORMS.values():
        for one in form.split(" or "):
            assert any(one.partition("#")[0] in listed for listed in forms), one


def test_the_limits_are_the_codes() -> None:
    assert f"{MOST_CHARACTERS:,} characters" in PAGE
    assert f"{MOST_BYTES:,} bytes" in PAGE
    assert f"at most {MOST_CACHED_S / 60:.0f} minutes" in PAGE


def test_the_settings_are_read() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "src/callgate/vault/providers").glob("*.py"))
    for name in re.findall(r"`VAULT_([A-Z_]+)`", PAGE):
        assert f'setting("{name}")' in sources, name


def test_the_examples_are_valid() -> None:
    for block in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL):
        config = parse_config(tomllib.loads(block))
        for server in config.servers.values():
            assert all(is_reference(secret.ref) for secret in server.secrets.values())
            assert all(map(is_reference, server.headers.values()))
            assert server.secrets or server.headers


def test_the_notice_is_the_codes() -> None:
    delivery = deliver({"GITHUB_TOKEN": "ghp_" + "aB3dE6" * 6}, {}, None, gated=True)
    assert delivery.notices[0] in PAGE
    assert resolve_headers({}, None).headers == {}


def test_the_services_named_are_known() -> None:
    hosts = " ".join(host for listed in HOSTS.values() for host in listed)
    for name in ("github", "gitlab", "slack", "openai", "anthropic", "stripe", "notion"):
        assert name in hosts
