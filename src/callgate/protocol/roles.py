"""What a string of a message is for."""

from __future__ import annotations

from enum import IntEnum


class Role(IntEnum):
    """Who reads a string, and as what."""

    MODEL = 0
    """Text the model reads: descriptions, results, instructions, errors, schema text."""
    NAME = 1
    """An identifier the model reads and repeats: names of tools, prompts, properties, servers; resource URIs."""
    ARGUMENT = 2
    """What a client hands to a server: arguments, answers to elicitation and sampling."""
    MACHINE = 3
    """For programs only: ids, cursors, tokens, MIME types, base64 data, timestamps, protocol keywords."""
