"""A shell command as a hook needs it: which programs with which words, and which files are written to.

This is no shell. It reads quotes, separators, redirections and substitutions of POSIX shells well enough to see what a
plain command says; what a program computes while it runs is not seen. Imports nothing: a hook answers in milliseconds.
"""

from __future__ import annotations

MAX_COMMANDS = 512
MAX_DEPTH = 4
_SEPARATORS = frozenset(";&|()\n")
_BLANKS = frozenset(" \t\r")


class Command:
    """One simple command: its words without quotes, and the files its output goes to."""

    __slots__ = ("words", "writes")

    def __init__(self) -> None:
        self.words: list[str] = []
        self.writes: list[str] = []


def commands(text: str) -> list[Command] | None:
    """The simple commands of a text, substitutions included. None where it is not to be understood."""
    reader = _Reader(text)
    reader.read()
    return None if reader.broken else [one for one in reader.found if one.words or one.writes]


class _Reader:
    __slots__ = ("_at", "_text", "broken", "found")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.found: list[Command] = []
        self.broken = False

    def read(self) -> None:
        """All of it."""
        while self._at < len(self._text) and not self.broken:
            self._list(0, "")

    def _list(self, depth: int, close: str) -> None:
        """Commands up to `close` (or the end)."""
        text = self._text
        command = self._command()
        word: list[str] = []
        started = redirect = False

        def finish() -> None:
            nonlocal started, redirect
            if started:
                (command.writes if redirect else command.words).append("".join(word))
                word.clear()
                started = redirect = False

        while self._at < len(text) and not self.broken:
            char = text[self._at]
            if close and char == close:
                self._at += 1
                finish()
                return
            self._at += 1
            if char in _BLANKS:
                finish()
            elif char == "\\":
                if text[self._at : self._at + 1] != "\n":
                    word.append(text[self._at : self._at + 1])
                    started = True
                self._at += 1
            elif char == "$" and text[self._at : self._at + 1] in ("'", '"'):
                # `$'...'` is a quote in which a backslash may stand for any character.
                end = text.find("'", self._at + 1)
                self.broken = text[self._at] == "'" and "\\" in text[self._at : end + 1]
            elif char == "'":
                end = text.find("'", self._at)
                if end < 0:
                    self.broken = True
                word.append(text[self._at : end])
                self._at, started = end + 1, True
            elif char == '"':
                word.append(self._quoted(depth))
                started = True
            elif char == "`" or (char in "$<>" and text[self._at : self._at + 1] == "("):
                self._substitution(char, depth)
                started = True
            elif char in "<>":
                if started and "".join(word).isdigit():
                    word.clear()
                    started = False
                finish()
                redirect = self._redirection(char)
            elif char == "&" and text[self._at : self._at + 1] == ">":
                finish()
            elif char == "#" and not started:
                end = text.find("\n", self._at)
                self._at = len(text) if end < 0 else end
            elif char in _SEPARATORS:
                finish()
                command = self._command()
            else:
                word.append(char)
                started = True
        finish()
        self.broken = self.broken or bool(close)

    def _command(self) -> Command:
        self.found.append(Command())
        self.broken = self.broken or len(self.found) > MAX_COMMANDS
        return self.found[-1]

    def _redirection(self, char: str) -> bool:
        """Skip the rest of the operator; whether what follows is written to."""
        text = self._text
        writes = char == ">"
        while text[self._at : self._at + 1] in ("<", ">", "|", "&", "-"):
            writes = writes or text[self._at] == ">"
            self._at += 1
        return writes

    def _substitution(self, char: str, depth: int) -> None:
        if depth == MAX_DEPTH:
            self.broken = True
        elif char == "`":
            self._list(depth + 1, "`")
        else:
            self._at += 1
            self._list(depth + 1, ")")

    def _quoted(self, depth: int) -> str:
        """What stands between double quotes, without what is substituted there."""
        text = self._text
        out: list[str] = []
        while self._at < len(text) and not self.broken:
            char = text[self._at]
            self._at += 1
            if char == '"':
                return "".join(out)
            if char == "\\" and text[self._at : self._at + 1] in ('"', "\\", "$", "`", "\n"):
                out.append("" if text[self._at] == "\n" else text[self._at])
                self._at += 1
            elif char == "`" or (char == "$" and text[self._at : self._at + 1] == "("):
                self._substitution(char, depth)
            else:
                out.append(char)
        self.broken = True
        return ""
