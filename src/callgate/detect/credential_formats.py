"""Credentials that say what they are: prefix, alphabet, length, and a checksum or structure where there is one.

`formats_in()` finds them in any text, in one pass a prefix, linear in the length of the text. Gathered in November
2026 from the issuers' documentation and the rules of gitleaks (MIT).
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_DIGITS = "0123456789"
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_UPPER = _LOWER.upper()
_BASE62 = _DIGITS + _UPPER + _LOWER
_ALNUM = frozenset(_BASE62)
_URLSAFE = _ALNUM | frozenset("-_")
_DOTTED = _URLSAFE | {"."}
_BASE64 = _ALNUM | frozenset("+/=")
_HEX = frozenset(_DIGITS + "abcdef")
_BASE32 = frozenset(_UPPER + "234567")
_WORD = _ALNUM | {"_"}
_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


@dataclass(frozen=True, slots=True)
class Format:
    """One issuer's form. `least` and `most` count the characters after the prefix.

    `proof` says whether a body has a right checksum or structure. With `must` the proof decides; without it, it
    only makes certain what the form makes likely. `padded`: all after the last `_` of the prefix is base64 (RFC 4648),
    which alone may end in `=`.
    """

    kind: str
    prefix: str
    alphabet: frozenset[str]
    least: int
    most: int
    proof: Callable[[str], bool] | None = None
    must: bool = False
    padded: bool = False


def _crc62(body: str) -> bool:
    """CRC-32 of all but the last six characters, in base 62, in those six: GitHub and npm."""
    number, out = zlib.crc32(body[:-6].encode()), ""
    while number:
        number, digit = divmod(number, 62)
        out = _BASE62[digit] + out
    return out.rjust(6, "0") == body[-6:]


def _grafana(body: str) -> bool:
    """`glsa_`, 32 characters, `_`, CRC-32 of all before it in hex."""
    return body[32:33] == "_" and body[33:] == f"{zlib.crc32(b'glsa_' + body[:32].encode()):08x}"


def _age(body: str) -> bool:
    """The bech32 checksum (BIP 173) of an age identity."""
    values = [_BECH32.find(char) for char in body.lower()]
    human = "age-secret-key-"
    check = 1
    for value in [ord(c) >> 5 for c in human] + [0] + [ord(c) & 31 for c in human] + values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    return min(values) >= 0 and check == 1


def _jwt(body: str) -> bool:
    """Three parts, the first of them JSON that names an algorithm, the second JSON (RFC 7519)."""
    parts = ("eyJ" + body).split(".")
    if len(parts) != 3 or not parts[2]:
        return False
    try:
        head, claims = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in parts[:2])
    except (binascii.Error, ValueError):
        return False
    return head[:1] == b"{" and b'"alg"' in head and claims[:1] == b"{"


def _no_words(body: str) -> bool:
    """At least two digits: `sk-learn-something-like-this` is a name."""
    return sum(char in _DIGITS for char in body) >= 2


def _telegram(body: str) -> bool:
    """A number of 8 to 10 digits, a colon, the token."""
    return body[:8].isdigit() and ":" in body[8:11]


def _dots(*places: int) -> Callable[[str], bool]:
    def check(body: str) -> bool:
        return all(body[at : at + 1] == "." for at in places)

    return check


def _of(kind: str, prefixes: str, *rule: object, **more: object) -> tuple[Format, ...]:
    return tuple(Format(kind, prefix, *rule, **more) for prefix in prefixes.split())  # type: ignore[arg-type]


FORMATS: Final[tuple[Format, ...]] = (
    *_of("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", _ALNUM, 36, 255, _crc62),
    *_of("GitHub fine-grained token", "github_pat_", _WORD, 60, 255),
    *_of("npm token", "npm_", _ALNUM, 36, 36, _crc62),
    *_of("GitLab token", "glpat- gldt- glptt- glrt- glcbt- glsoat- glft-", _DOTTED, 20, 320, _no_words, must=True),
    *_of("PyPI token", "pypi-AgE", _URLSAFE, 50, 1000),
    *_of("AWS access key id", "AKIA ASIA", _BASE32, 16, 16),
    *_of("OpenAI key", "sk-proj- sk-svcacct- sk-admin-", _URLSAFE, 40, 250, _no_words, must=True),
    *_of("Anthropic key", "sk-ant-", _URLSAFE, 40, 200, _no_words, must=True),
    *_of("OpenRouter key", "sk-or-v1-", _HEX, 64, 64),
    *_of("API key (sk-)", "sk-", _ALNUM, 32, 128, _no_words, must=True),
    *_of("Stripe key", "sk_live_ sk_test_ rk_live_ rk_test_ whsec_", _ALNUM | {"/", "+"}, 20, 250),
    *_of("Google API key", "AIza", _URLSAFE, 35, 35),
    *_of("Google OAuth token", "ya29.", _DOTTED, 30, 2000),
    *_of("Google client secret", "GOCSPX-", _URLSAFE, 28, 28),
    *_of("Slack token", "xoxb- xoxp- xoxa- xoxr- xoxs- xoxe- xoxe.xoxp- xapp-", _URLSAFE, 20, 300, _no_words, True),
    *_of("Slack webhook", "https://hooks.slack.com/services/T", _WORD | {"/"}, 30, 60),
    *_of("Hugging Face token", "hf_ api_org_", _ALNUM, 34, 40),
    *_of("SendGrid key", "SG.", _DOTTED, 66, 66, _dots(22), must=True),
    *_of("DigitalOcean token", "dop_v1_ doo_v1_ dor_v1_", _HEX, 64, 64),
    *_of("Docker token", "dckr_pat_ dckr_oat_", _URLSAFE, 27, 32),
    *_of("HashiCorp Vault token", "hvs. hvb. hvr.", _URLSAFE, 24, 300, _no_words, must=True),
    *_of("Atlassian token", "ATATT3xFfGF0 ATCTT3xFfGF0 ATBB", _URLSAFE | {"="}, 28, 250),
    *_of("Notion token", "ntn_", _ALNUM, 40, 60),
    *_of("Notion token", "secret_", _ALNUM, 43, 43, _no_words, must=True),
    *_of("Figma token", "figd_ figu_", _URLSAFE, 36, 100),
    *_of("Linear key", "lin_api_ lin_oauth_", _ALNUM, 40, 64),
    *_of("Sentry token", "sntrys_ sntryu_", _BASE64 | {"_", "-"}, 40, 400),
    *_of("Grafana token", "glsa_", _WORD, 41, 41, _grafana),
    *_of("Grafana token", "glc_eyJ", _BASE64, 40, 400, padded=True),
    *_of("Databricks token", "dapi", _HEX | {"-"}, 32, 34),
    *_of("Shopify token", "shpat_ shpca_ shppa_ shpss_", _HEX | frozenset("ABCDEF"), 32, 32),
    *_of("Groq key", "gsk_", _ALNUM, 40, 60),
    *_of("xAI key", "xai-", _ALNUM, 60, 100),
    *_of("Perplexity key", "pplx-", _ALNUM, 40, 64),
    *_of("Replicate token", "r8_", _ALNUM, 37, 40),
    *_of("Tavily key", "tvly-", _URLSAFE, 28, 60, _no_words, must=True),
    *_of("Firecrawl key", "fc-", _HEX, 32, 32),
    *_of("Brave Search key", "BSA", _URLSAFE, 24, 28, _no_words, must=True),
    *_of("Postman key", "PMAK-", _HEX | {"-"}, 59, 59),
    *_of("New Relic key", "NRAK-", frozenset(_UPPER + _DIGITS), 27, 27),
    *_of("PlanetScale token", "pscale_tkn_ pscale_pw_ pscale_oauth_", _DOTTED, 32, 64),
    *_of("Doppler token", "dp.pt. dp.st. dp.ct. dp.sa.", _DOTTED, 40, 80),
    *_of("Pulumi token", "pul-", _HEX, 40, 40),
    *_of("Netlify token", "nfp_", _ALNUM, 36, 40),
    *_of("Supabase token", "sbp_", _HEX, 40, 40),
    *_of("Supabase secret key", "sb_secret_", _URLSAFE, 31, 60),
    *_of("Tailscale key", "tskey-auth- tskey-api- tskey-client-", _URLSAFE, 20, 80),
    *_of("RubyGems key", "rubygems_", _HEX, 48, 48),
    *_of("Airtable token", "pat", _ALNUM | {"."}, 79, 79, _dots(14), must=True),
    *_of("Telegram bot token", "bot", _URLSAFE | {":"}, 43, 47, _telegram, must=True),
    *_of("Fly.io token", "fm2_", _BASE64, 60, 2000, padded=True),
    *_of("1Password service account", "ops_eyJ", _BASE64 | {"-", "_"}, 200, 2000, padded=True),
    *_of("age identity", "AGE-SECRET-KEY-1", frozenset(_BECH32.upper()), 58, 58, _age),
    *_of("JSON Web Token", "eyJ", _DOTTED, 40, 8000, _jwt, must=True),
)  # fmt: skip

_PEM_BEGIN = "-----BEGIN "
_PEM_KEYS = ("PRIVATE KEY-----", "PRIVATE KEY BLOCK-----")
_PEM_MOST = 32_768
_RUN = 256
_MARKS = ".-/=:"
"""What stands after a credential, as at the end of a sentence or before another value, though some have it inside."""
MOST = 10_000
"""Credentials found in one text; a text with more is full of them, and the rest is not looked at."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A place in a text that has the form of a credential."""

    kind: str
    start: int
    end: int
    proven: bool
    prefix: int
    """How many of its characters every credential of the kind begins with."""


def formats_in(text: str) -> list[Shape]:
    """All credentials of known forms in `text`, in order, without overlaps; at most MOST."""
    found = sorted([*_tokens(text), *_pem(text)], key=lambda one: (one.start, -one.end))
    out: list[Shape] = []
    for one in found:
        if len(out) < MOST and (not out or one.start >= out[-1].end):
            out.append(one)
    return out


def _tokens(text: str) -> Iterator[Shape]:
    for form in FORMATS:
        at = text.find(form.prefix)
        while at >= 0:
            shape, end = _token_at(text, at, form)
            if shape:
                yield shape
            # A long run is looked at once, a short one at each of its prefixes: linear either way.
            at = text.find(form.prefix, end if shape or end - at > _RUN else at + len(form.prefix))


def _token_at(text: str, at: int, form: Format) -> tuple[Shape | None, int]:
    """The credential at a prefix, and how far was read."""
    begin = end = at + len(form.prefix)
    if at and text[at - 1] in _URLSAFE:
        return None, begin  # in the middle of a longer word
    last = min(len(text), begin + form.most)
    alphabet = form.alphabet
    while end < last and text[end] in alphabet:
        end += 1
    read = end
    if end < len(text) and text[end] in alphabet and text[end] in _ALNUM:
        return None, read  # longer than any of this form
    end = _without_marks(text, begin, end, form)
    if end - begin < form.least or (end < len(text) and text[end] in _WORD):
        return None, read
    body = text[begin:end]
    proven = form.proof is not None and form.proof(body)
    if form.must and not proven:
        return None, read
    certain = proven and form.proof is not _no_words
    return Shape(form.kind, at, end, certain, min(4, len(form.prefix))), end


def _without_marks(text: str, begin: int, end: int, form: Format) -> int:
    """Where a credential ends whose letters were read up to `end`: marks that follow it are not its own, padding is."""
    if form.padded:
        bare = begin + len(text[begin:end].rstrip("="))
        encoded = bare - begin + len(form.prefix) - form.prefix.rfind("_") - 1
        missing = -encoded % 4
        if 1 <= missing <= min(2, end - bare):
            return bare + missing
    return begin + len(text[begin:end].rstrip(_MARKS))


def _pem(text: str) -> Iterator[Shape]:
    at = text.find(_PEM_BEGIN)
    while at >= 0:
        label_end = text.find("-----", at + len(_PEM_BEGIN), at + 80)
        label = text[at + len(_PEM_BEGIN) : label_end + 5] if label_end >= 0 else ""
        step = at + len(_PEM_BEGIN)
        if label.endswith(_PEM_KEYS):
            closing = "-----END " + label
            end = text.find(closing, step, at + _PEM_MOST)
            stop = end + len(closing) if end >= 0 else min(len(text), at + _PEM_MOST)
            body = text[step + len(label) : stop]
            if len(body) > 40 and "<" not in body[:64] and "..." not in body[:96]:
                yield Shape("private key", at, stop, proven=end >= 0, prefix=0)
                step = stop
        at = text.find(_PEM_BEGIN, step)
