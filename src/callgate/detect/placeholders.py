"""Values that stand where a secret will be, or that say where it is kept: not secrets themselves."""

from __future__ import annotations

import itertools

REFERENCE_SCHEMES = (
    "vault://",
    "awssm://",
    "keyring://",
    "age://",
    "op://",
    "env://",
    "file://",
)
"""How callgate's own references begin."""
_FOREIGN = (
    "se://", "secret://", "secrets://", "keychain:", "keychain://", "ref+", "arn:aws:secretsmanager:",
    "arn:aws:ssm:", "ENC[", "projects/", "!vault", "!Ref", "!ENV", "@env", "@Microsoft.KeyVault", "bws://",
    "doppler://", "gcpsm://", "azurekv://", "ssm://", "bitwarden://", "pass://", "kv/data/", "encrypted:",
    "credential:",
)  # fmt: skip
_STANDS_FOR = (
    "example", "placeholder", "changeme", "change_me", "change-me", "redacted", "replace_me", "replaceme",
    "replace-me", "replace_with", "replace-with", "your_", "your-", "youra", "yourt", "yours", "yourk",
    "yourp", "insert_", "insert-", "dummy", "_here", "-here", "goes here", "xxxx", "sample", "fake_",
    "fake-", "mocked", "lorem", "to_be_", "fixme", "fill_in", "fill-in", "****", "....", "…", "••",
)  # fmt: skip
_WORDS = frozenset(
    {
        "", "true", "false", "null", "none", "nil", "undefined", "auto", "automatic", "default", "yes", "no",
        "on", "off", "optional", "required", "required!", "enabled", "disabled", "unset", "empty", "todo",
        "tbd", "n/a", "na", "any", "all", "basic", "bearer", "digest", "oauth", "oauth2", "oidc", "jwt",
        "token", "tokens", "secret", "secrets", "password", "passwd", "string", "str", "text", "value", "key",
        "apikey", "api_key", "api-key", "anonymous", "public", "private", "hidden", "masked", "prompt", "ask",
        "env", "environment", "keyring", "keychain", "vault", "file", "static", "dynamic", "inherit", "xxx",
        "test", "foo", "bar", "baz", "user", "username", "root", "cookie", "cookies", "header", "query", "body",
        "session", "pass", "passphrase", "credentials", "authorization", "access_token", "refresh_token",
        "id_token", "client_secret",
    }
)  # fmt: skip


def is_reference(value: str) -> bool:
    """Whether a value names where a secret is, in callgate's form, a shell's, or that of another program."""
    if value.startswith(REFERENCE_SCHEMES) or value.startswith(_FOREIGN):
        return True
    if "${" in value or "$(" in value or "{{" in value or "`" in value[:1]:
        return True
    if value[:1] == "$" and value[1:].replace("_", "").isalnum() and not value[1:2].isdigit():
        return value[1:].isupper() or value[1:].islower()  # $NAME; a password may begin with a dollar, too
    if value[:1] == "%" and value[-1:] == "%" and len(value) > 2:
        return True
    if value[:1] == "{" and value[-1:] == "}" and value[1:-1].replace("_", "").replace(":", "").isalnum():
        return True  # {env:NAME}, {NAME}
    lower = value.lower()
    return lower.startswith(("process.env.", "os.environ", "env.", "env:", "secrets.", "getenv("))


def is_placeholder(value: str, name: str = "") -> bool:
    """Whether a value only stands for one: `<your token>`, `changeme`, `xxxx`, `1234567890`, its own name."""
    lower = value.strip().lower()
    if "<" in lower and ">" in lower[lower.index("<") :]:
        return True
    if lower in _WORDS or lower.endswith("...") or any(mark in lower for mark in _STANDS_FOR):
        return True
    folded = "".join(char for char in lower if char.isalnum())
    if not folded or folded == "".join(char for char in name.lower() if char.isalnum()):
        return True
    if lower.startswith(("my", "the", "some", "a ", "an ")) and folded.isalpha() and _says(folded):
        return True
    if _is_identifier(value):
        return True
    return is_filler(folded)


def is_filler(body: str) -> bool:
    """Few different characters, or characters in a row: `aaaa`, `12345678`, `abcdefgh`, `0123456789abcdef`."""
    if len(body) < 4:
        return False
    if len(set(body)) < min(5, len(body) // 2):
        return True
    steps = sum(ord(b) - ord(a) in (0, 1) for a, b in itertools.pairwise(body))
    return steps >= 0.6 * (len(body) - 1)


def _says(folded: str) -> bool:
    return any(word in folded for word in ("token", "key", "secret", "password", "credential"))


def _is_identifier(value: str) -> bool:
    """`OPENAI_API_KEY` as a value is the name of a variable."""
    return "_" in value and value.isascii() and value.isupper() and value.replace("_", "").isalpha()
