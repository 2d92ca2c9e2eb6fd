"""Looking through files and directories: which are read, and how."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from callgate.errors import CallgateError
from callgate.vault.find import Hit, Search, Source
from callgate.vault.find_files import TextFile
from callgate.vault.find_places import KNOWN, LEAVE_OUT, format_of, histories, is_env_file
from callgate.vault.find_text import READERS, in_known_forms
from callgate.vault.find_tree import Node, in_document

ENV_DEPTH: Final = 6
SERVER_DEPTH: Final = 4
MOST_DOCUMENT: Final = 512 * 1024
"""Characters of a JSON, TOML or YAML file below a directory; a larger one is data, and only known forms are found."""

Parse = Callable[[str, str], Node]
"""Format (`json`, `toml`, `yaml`) and text to a document. Raises CallgateError."""


class Walk:
    """One search over places of this machine. `parse` reads documents; `home` bounds where links may lead."""

    def __init__(self, search: Search, home: str, parse: Parse) -> None:
        self._search = search
        self._home = home
        self._parse = parse

    def known_places(self, environ: Mapping[str, str]) -> None:
        """Shell histories, and the files of programs that are known to keep credentials."""
        for path in histories(self._home, environ):
            self.file(path, "history", "history")
        for known in KNOWN:
            path = os.path.join(self._home, known.path)
            if known.format == "tree":
                if os.path.isdir(path):
                    self._tree(path, "credential-file", 2, lambda name: bool(format_of(name)))
            else:
                self.file(path, "credential-file", known.format)

    def env_files(self, top: str) -> None:
        """All `.env` files below a directory."""
        self._tree(top, "env-file", ENV_DEPTH, is_env_file)

    def server_directory(self, top: str) -> None:
        """The directory of a server: its configuration and keys. The home directory and those above are not one."""
        real = os.path.realpath(top)
        home = os.path.realpath(self._home)
        if os.path.commonpath((real, home)) == real:
            self._search.files.skip(top, "a server was given the whole home directory or more: name what to look at")
            return
        self._tree(real, "server-directory", SERVER_DEPTH, lambda name: bool(format_of(name)))

    def named(self, path: str) -> None:
        """A file or directory that a person named: as deep as the limits go."""
        if os.path.isdir(path):
            self._tree(path, "file", self._search.files.limits.depth, lambda name: bool(format_of(name)))
        elif os.path.basename(path) in (os.path.basename(one) for one in histories("", {})):
            self.file(path, "history", "history")
        else:
            self.file(path, "env-file" if is_env_file(os.path.basename(path)) else "file", _format(path) or "text")

    def _tree(self, top: str, source: Source, depth: int, wanted: Callable[[str], bool]) -> None:
        for path in self._search.files.walk(top, wanted, depth=depth, leave_out=LEAVE_OUT):
            self.file(path, source, _format(path), below=top)

    def file(self, path: str, source: Source, format_: str, *, below: str = "") -> None:
        """One file, unless it was read before."""
        files = self._search.files
        if not os.path.lexists(path) or not files.first_time(path):
            return
        file = files.read(path, within=below or self._home, tail=source == "history")
        if file is None:
            return
        reader = READERS.get(format_)
        self._search.add(file, reader(file.text) if reader else self._document(file, format_), source)

    def _document(self, file: TextFile, format_: str) -> Iterator[Hit]:
        if len(file.text) > MOST_DOCUMENT:
            return in_known_forms(file.text)
        try:
            return in_document(self._parse(format_, file.text), lambda: self._search.too_many(file))
        except CallgateError:
            return in_known_forms(file.text)  # not what its name says, and still a text


def _format(path: str) -> str:
    return format_of(os.path.basename(path))
