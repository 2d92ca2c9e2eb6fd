"""What a name says of its value: `DB_PASSWORD` has a secret, `MAX_TOKENS` and `TOKEN_FILE` have none.

A name is cut into words at `_`, `-`, `.`, spaces and humps. What follows the telling word can take its meaning away
(a password's *length*), what stands before it too (a *public* key).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Telling: TypeAlias = Literal["password", "secret", "key", ""]
"""How much a name tells: a password may be any word; a secret is at least not a plain word; a key must look made."""

LONGEST = 200
"""Characters of a name that are looked at, from its end."""

_PASSWORDS = frozenset(
    {
        "password", "passwd", "passphrase", "passcode", "pwd", "pass", "pw", "userpass", "dbpass",
    }
)  # fmt: skip
_SECRETS = frozenset(
    {
        "secret", "token", "apikey", "authtoken", "accesstoken", "apitoken", "accesskey", "secretkey",
        "privatekey", "credential", "credentials", "creds", "bearer", "authorization", "pat", "jwt", "cookie",
        "apisecret", "clientsecret", "authkey", "connectionstring",
    }
)  # fmt: skip
_KEY_KINDS = frozenset(
    {
        "api", "access", "secret", "private", "auth", "encryption", "signing", "master", "account", "service",
        "license", "subscription", "storage", "shared", "app", "application", "admin", "deploy", "session",
        "webhook", "integration", "management", "write", "project", "function", "hmac", "bot", "anon", "client",
        "x", "sas",
    }
)  # fmt: skip
_WEAK = frozenset({"key", "auth", "session", "dsn", "conn", "salt", "seed", "mnemonic", "otp", "signature", "sid"})
_NO_SECRET_AFTER = frozenset(
    {
        "file", "files", "filename", "path", "dir", "directory", "folder", "name", "names", "id", "ids", "url",
        "urls", "uri", "endpoint", "host", "hostname", "port", "type", "kind", "mode", "expiry", "expires",
        "expiration", "expire", "ttl", "timeout", "length", "len", "limit", "limits", "count", "counts", "size",
        "max", "min", "env", "var", "variable", "provider", "method", "policy", "arn", "ref", "reference",
        "version", "rotation", "algorithm", "alg", "header", "headers", "prefix", "suffix", "field", "label",
        "description", "scope", "scopes", "audience", "issuer", "user", "username", "email", "enabled",
        "disabled", "required", "placeholder", "hint", "prompt", "format", "command", "cmd", "helper", "store",
        "manager", "source", "location", "budget", "usage", "price", "cost", "style", "class", "input",
        "column", "index", "sock", "domain", "realm", "flow", "strategy", "schemes", "scheme", "schema",
        "fingerprint", "title", "text", "message", "binding", "bindings", "code", "map", "mapping", "regex",
        "pattern", "rule", "rules", "support", "storage", "backend", "server", "server_url", "service",
        "expressions", "expression", "only", "handler", "callback", "checker", "generator", "validator",
        "mount", "engine", "region", "namespace", "list", "set", "sets", "types", "lifetime", "duration", "age",
        "date", "time", "at", "created", "updated", "status", "state", "options", "config", "settings",
        "params", "info", "metadata", "used", "group", "role", "roles", "permissions", "allowed", "cache",
        "key_id", "keyid", "kid", "hash", "digest",
    }
)  # fmt: skip
_NO_SECRET_BEFORE = frozenset(
    {
        "public", "max", "min", "num", "n", "count", "total", "primary", "foreign", "sort", "partition",
        "cache", "hot", "input", "output", "prompt", "completion", "no", "use", "enable", "disable", "allow",
        "require", "has", "is", "with", "stop", "pad", "eos", "bos", "unk", "special", "tokenizer", "next",
        "page", "pagination", "continuation", "sync", "by", "design", "color", "shortcut", "object", "row",
        "map", "dict", "lookup", "arrow", "enter", "modifier", "publishable", "request", "change", "action",
        "idempotency", "cancellation", "nextpage",
    }
)  # fmt: skip
_MANAGERS = frozenset({"onepassword", "nopassword", "showpassword", "resetpassword", "changepassword"})
_TRAILERS = frozenset(
    {
        "value", "values", "prod", "production", "dev", "development", "staging", "test", "live", "base",
        "current", "new", "old", "previous", "primary", "secondary", "default", "main", "raw", "plain",
        "plaintext", "string", "str", "data", "admin", "root", "local", "internal", "external",
    }
)  # fmt: skip


def words_of(name: str) -> list[str]:
    """The words of a name in lower case: `githubAPIKey_2` gives `github`, `api`, `key`, `2`."""
    out: list[str] = []
    word = ""
    name = name[-LONGEST:]
    for at, char in enumerate(name):
        if not char.isalnum():
            if word:
                out.append(word)
            word = ""
            continue
        before = name[at - 1] if at else ""
        after = name[at + 1 : at + 2]
        hump = char.isupper() and (before.islower() or before.isdigit() or (before.isupper() and after.islower()))
        if word and (hump or (char.isdigit() != before.isdigit() and not word.isalpha())):
            out.append(word)
            word = ""
        word += char
    if word:
        out.append(word)
    return [one.lower() for one in out]


def telling(name: str) -> Telling:
    """What kind of secret a value of this name would be; empty: none that the name tells of."""
    if "::" in name:
        return ""  # a type: AWS::SecretsManager::Secret
    words = words_of(name)
    while words and (words[-1].isdigit() or words[-1] in _TRAILERS):
        words.pop()
    if not words:
        return ""
    last = words[-1].rstrip("0123456789")
    before = words[-2] if len(words) > 1 else ""
    if last in _NO_SECRET_AFTER or (before in _NO_SECRET_BEFORE and last not in _PASSWORDS):
        # `AWS_ACCESS_KEY_ID` is half of a pair, and worth keeping beside the other half.
        return "secret" if words[-3:] == ["access", "key", "id"] else ""
    if last in _PASSWORDS or (last.endswith(("password", "passwd")) and last not in _MANAGERS):
        return "password"
    if last in _SECRETS:
        return "secret"
    if last == "tokens":
        return "secret" if before in ("api", "access", "auth", "bot") else ""
    if last == "key":
        return "secret" if before in _KEY_KINDS else "key"
    if last in _WEAK or last.endswith(("token", "secret", "apikey")):
        return "key" if last in _WEAK else "secret"
    # The telling word may stand before a word that only says whose it is: `TOKEN_GITHUB`, `PASSWORD_ALICE`.
    if words[0] in _PASSWORDS and len(words) == 2:
        return "password"
    return "key" if any(word in _SECRETS or word in _PASSWORDS for word in words) else ""
