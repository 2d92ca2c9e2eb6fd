"""Credentials of every known form, made up here: nothing that looks like one stands in the repository."""

from __future__ import annotations

import base64
import random
import zlib

from callgate.detect.credential_formats import FORMATS, Format

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def crc62(body: str) -> str:
    """GitHub's and npm's checksum."""
    number, out = zlib.crc32(body.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        out = BASE62[digit] + out
    return out.rjust(6, "0")


def github(draw: random.Random, prefix: str = "ghp_") -> str:
    """A token with a right checksum."""
    body = "".join(draw.choices(BASE62, k=30))
    return prefix + body + crc62(body)


def age(draw: random.Random) -> str:
    """An identity as age-keygen writes it (BIP 173)."""
    values = [draw.randrange(32) for _ in range(52)]
    human = "age-secret-key-"
    expanded = [ord(c) >> 5 for c in human] + [0] + [ord(c) & 31 for c in human]
    check = 1
    for value in expanded + values + [0] * 6:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    values += [(check ^ 1) >> 5 * (5 - at) & 31 for at in range(6)]
    return (human + "1" + "".join(BECH32[value] for value in values)).upper()


def jwt(draw: random.Random) -> str:
    """A signed token of nothing."""
    parts = [b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"1","iat":1516239022}', draw.randbytes(32)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def pem(draw: random.Random, label: str = "OPENSSH PRIVATE KEY") -> str:
    """A private key's lines."""
    lines = [base64.b64encode(draw.randbytes(48)).decode() for _ in range(5)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"])


def sample(form: Format, draw: random.Random) -> str:
    """One of a form."""
    if form.kind == "JSON Web Token":
        return jwt(draw)
    if form.kind == "age identity":
        return age(draw)
    letters = sorted(form.alphabet - set("-_./+=:"))
    body = [draw.choice(letters) for _ in range(form.least)]
    if form.kind == "SendGrid key":
        body[22] = "."
    elif form.kind == "Airtable token":
        body[14] = "."
    elif form.kind == "Telegram bot token":
        body[:9] = [*"12345678", ":"]
    elif "4" in letters:
        body[3:6:2] = "47"
    if form.kind == "npm token":
        return form.prefix + "".join(body[:30]) + crc62("".join(body[:30]))
    token = form.prefix + "".join(body)
    if form.padded:
        token += "=" * (-len(token[form.prefix.rfind("_") + 1 :]) % 4)
    return token


def all_forms(seed: int) -> list[tuple[Format, str]]:
    """One of each."""
    draw = random.Random(seed)
    return [(form, sample(form, draw)) for form in FORMATS]
