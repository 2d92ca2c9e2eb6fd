"""Credentials that can be told by their beginning: whose they are, and where they may go.

Hosts are those of the services' public interfaces; a server of one's own (GitHub Enterprise, self-managed GitLab) is
named with the secret: `hosts = [...]`. Prefixes as the services document them, read on 2026-11-22.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_SLACK: Final = ("slack.com", "*.slack.com")
_GITHUB: Final = ("api.github.com", "github.com", "uploads.github.com")
_STRIPE: Final = ("api.stripe.com",)

HOSTS: Final[dict[str, tuple[str, ...]]] = {
    "ghp_": _GITHUB,
    "gho_": _GITHUB,
    "ghu_": _GITHUB,
    "ghs_": _GITHUB,
    "ghr_": _GITHUB,
    "github_pat_": _GITHUB,
    "glpat-": ("gitlab.com",),
    "sk-ant-": ("api.anthropic.com",),
    "sk-proj-": ("api.openai.com",),
    "sk-svcacct-": ("api.openai.com",),
    "sk-or-v1-": ("openrouter.ai",),
    "sk-": (),
    "xoxb-": _SLACK,
    "xoxp-": _SLACK,
    "xoxc-": _SLACK,
    "xoxd-": _SLACK,
    "xoxe-": _SLACK,
    "xapp-": _SLACK,
    "AKIA": (),
    "ASIA": (),
    "AIza": ("*.googleapis.com",),
    "ya29.": ("*.googleapis.com",),
    "sk_live_": _STRIPE,
    "sk_test_": _STRIPE,
    "rk_live_": _STRIPE,
    "rk_test_": _STRIPE,
    "SG.": ("api.sendgrid.com",),
    "npm_": (),
    "pypi-": (),
    "hf_": ("huggingface.co", "*.huggingface.co"),
    "figd_": ("api.figma.com",),
    "lin_api_": ("api.linear.app",),
    "ntn_": ("api.notion.com",),
    "secret_": ("api.notion.com",),
    "shpat_": (),
    "shpss_": (),
    "dop_v1_": ("api.digitalocean.com",),
    "sntrys_": ("sentry.io", "*.sentry.io"),
    "sntryu_": ("sentry.io", "*.sentry.io"),
    "tvly-": ("api.tavily.com",),
    "gsk_": ("api.groq.com",),
    "xai-": ("api.x.ai",),
    "pplx-": ("api.perplexity.ai",),
    "r8_": ("api.replicate.com",),
    "ATATT": ("*.atlassian.net", "api.atlassian.com"),
    "fc-": ("api.firecrawl.dev",),
    "dckr_pat_": (),
    "hvs.": (),
    "eyJ": (),
}
PREFIXES: Final = tuple(HOSTS)
_BY_LENGTH: Final = tuple(sorted(HOSTS, key=len, reverse=True))
_LEAST: Final = 16
"""Characters that come after the prefix, at least: `sk-1` is a name, not a key."""
_PUNCTUATION: Final = frozenset("-_.~+/=:")


def prefix_of(text: str) -> str:
    """The prefix by which `text` is known to be a credential, or ''."""
    if not text.startswith(PREFIXES) or not text.isascii():
        return ""
    for prefix in _BY_LENGTH:
        if text.startswith(prefix):
            rest = text[len(prefix) :]
            plain = len(rest) >= _LEAST and all(char.isalnum() or char in _PUNCTUATION for char in rest)
            varied = any(char.isdigit() for char in rest) and any(char.isalpha() for char in rest)
            if prefix == "eyJ" and text.count(".") != 2:
                return ""
            return prefix if plain and varied else ""
    return ""


def hosts_of(text: str) -> tuple[str, ...]:
    """Where a credential of a known service may go; empty where that is not known."""
    prefix = prefix_of(text)
    return HOSTS[prefix] if prefix else ()
