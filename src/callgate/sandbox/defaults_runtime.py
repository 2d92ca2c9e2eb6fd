"""What runs a server, found from its command line: the interpreter, its installation, the package's own files.

Everything found is read-only in the sandbox. Nothing of the server is started or imported to find it.
"""

from __future__ import annotations

import os

from callgate.errors import SandboxError
from callgate.runners import CONTAINER_ENGINES, FETCHERS
from callgate.sandbox.defaults_paths import in_system, within
from callgate.sandbox.shims import behind
from callgate.text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from callgate.sandbox.defaults_paths import Fence
    from callgate.sandbox.spec import ServerKind

_NODE = frozenset(("node", "nodejs", "bun", "deno"))
_NODE_VALUES = frozenset(
    ("-r", "--require", "--import", "-C", "--conditions", "--loader", "--experimental-loader", "--env-file",
     "--max-old-space-size", "--stack-size", "--title")
)  # fmt: skip
_PYTHON_VALUES = frozenset(("-W", "-X", "--check-hash-based-pycs"))
_RUNNERS = FETCHERS - _NODE  # bun runs a file as well as a package
_PROJECT_FILES = ("package.json", "pyproject.toml", "setup.py", "deno.json")
_PYTHON_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
_SHEBANG_BYTES = 4096
_SMALL_FILE_BYTES = 1 << 20
_ANCESTORS = 8


class Runtime:
    """A command line made absolute, and what it needs to be seen.

    `first_argument`: index of the first argument that is the server's own. `paths`: read-only, as they are named in
    `argv` or looked for by the interpreter. `package`: npm's or PyPI's name, where the files tell it.
    `path_entries`: directories of programs it may start by name. `in_place`: those of `paths` that a file of an
    installed package names, and nobody else.
    """

    __slots__ = ("argv", "first_argument", "in_place", "kind", "package", "path_entries", "paths")

    def __init__(self, kind: ServerKind, argv: list[str], first_argument: int, paths: Sequence[str] = ()) -> None:
        self.kind = kind
        self.argv = argv
        self.first_argument = first_argument
        self.paths = list(paths)
        self.package = ""
        self.path_entries: list[str] = []
        self.in_place: list[str] = []


def find(argv: Sequence[str], cwd: str, search: str, fence: Fence) -> Runtime:
    """Read a command line. Raises SandboxError for a program that is not there."""
    if not argv:
        raise SandboxError("there is no server command", next_step="write: callgate run -- COMMAND ARGS…")
    program = which(argv[0], cwd, search)
    name = os.path.basename(program).removesuffix(".exe")
    if name in CONTAINER_ENGINES:
        return Runtime("container", [program, *argv[1:]], len(argv))
    real = os.path.realpath(program)
    finder = _Finder(cwd, search, fence)
    if name in _RUNNERS or os.path.basename(real) in {"npx-cli.js", "npm-cli.js"}:
        return Runtime("binary", [program, *argv[1:]], 1, [program])
    if name in _NODE or os.path.basename(real) in _NODE:
        return finder.node(program, list(argv[1:]))
    if _is_python(name):
        return finder.python(program, list(argv[1:]))
    return finder.script(program, list(argv[1:]))


def is_runner(argv: Sequence[str]) -> bool:
    """Whether a command fetches a package at each start instead of running one."""
    return bool(argv) and os.path.basename(argv[0]).removesuffix(".exe") in _RUNNERS


def which(program: str, cwd: str, search: str) -> str:
    """The absolute path of a program, links kept. Raises SandboxError."""
    if os.sep in program:
        places = [os.path.join(cwd, program)]
    else:
        places = [os.path.join(cwd, folder or ".", program) for folder in search.split(os.pathsep)]
    for place in places:
        if os.path.isfile(place) and os.access(place, os.X_OK):
            path = behind(os.path.normpath(place), cwd)
            return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    raise SandboxError(
        f"there is no program '{visible(program, 200)}'",
        next_step="check the spelling, or give the full path: programs started by an editor often have a short PATH",
    )


def _is_python(name: str) -> bool:
    for prefix in ("python", "pypy"):
        rest = name.removeprefix(prefix)
        if rest != name and (not rest or rest.replace(".", "").isdigit()):
            return True
    return False


class _Finder:
    def __init__(self, cwd: str, search: str, fence: Fence) -> None:
        self._cwd = cwd
        self._search = search
        self._fence = fence

    # --- node --------------------------------------------------------------------------------------

    def node(self, program: str, rest: list[str]) -> Runtime:
        real = os.path.realpath(program)
        found = Runtime("node", [real, *rest], 1)
        found.path_entries.append(os.path.dirname(real))
        found.paths += self._installation(real)
        at = 0
        while at < len(rest) and rest[at].startswith("-") and rest[at] != "-":
            if rest[at] in {"-e", "--eval", "-p", "--print"}:
                found.first_argument = min(at + 3, len(found.argv))
                return found
            at += 2 if rest[at] in _NODE_VALUES else 1
        if at < len(rest):
            found.first_argument = at + 2
            self._node_script(found, at + 1)
        return found

    def _node_script(self, found: Runtime, at: int) -> None:
        script = os.path.realpath(os.path.join(self._cwd, found.argv[at]))
        if not os.path.exists(script):
            raise SandboxError(f"there is no script '{visible(found.argv[at], 200)}'", next_step="check its path")
        found.argv[at] = script
        before, modules, _ = script.partition("/node_modules/")
        if modules:
            found.paths.append(f"{before}/node_modules")
            found.package = _npm_name(script)
            root = before
        else:
            root = self._project(script)
            found.paths += self._whole_or(root, script)
        # Packages are looked for upwards: a workspace keeps them above its members.
        for above in _ancestors(root):
            modules_above = f"{above}/node_modules"
            real = os.path.realpath(modules_above)
            # A project may bring a link of that name to anywhere.
            if os.path.basename(real) == "node_modules" and os.path.isdir(real) and not self._fence.reason(above):
                found.paths.append(modules_above)

    # --- python ------------------------------------------------------------------------------------

    def python(self, program: str, rest: list[str]) -> Runtime:
        found = Runtime("python", [program, *rest], 1)
        packages = self._python_installation(found, program)
        at = 0
        while at < len(rest) and rest[at].startswith("-") and rest[at] not in {"-", "-m", "-c"}:
            at += 2 if rest[at] in _PYTHON_VALUES else 1
        if at < len(rest) and rest[at] in {"-m", "-c"}:
            found.first_argument = min(at + 3, len(found.argv))
            if rest[at] == "-m" and at + 1 < len(rest):
                self._python_module(found, rest[at + 1])
        elif at < len(rest):
            found.first_argument = at + 2
            self._python_script(found, at + 1)
        found.package = _installed(found.package, packages)
        return found

    def _python_module(self, found: Runtime, module: str) -> None:
        top = module.partition(".")[0]
        found.package = top.replace("_", "-").lower()
        for name in (top, f"{top}.py"):
            if top.isidentifier() and os.path.exists(os.path.join(self._cwd, name)):
                found.paths += self._whole_or(self._cwd, os.path.join(self._cwd, name))

    def _python_script(self, found: Runtime, at: int) -> None:
        script = os.path.realpath(os.path.join(self._cwd, found.argv[at]))
        if not os.path.exists(script):
            raise SandboxError(f"there is no script '{visible(found.argv[at], 200)}'", next_step="check its path")
        found.argv[at] = script
        found.package = os.path.basename(script).replace("_", "-").lower()
        if not any(within(script, path) for path in found.paths):
            root = script if os.path.isdir(script) else self._project(script)
            found.paths += self._whole_or(root, script)

    def _python_installation(self, found: Runtime, program: str) -> list[str]:
        """The virtual environment, the installation below it, and what is installed from elsewhere."""
        prefix = os.path.dirname(os.path.dirname(program))
        base_program = os.path.realpath(program)
        packages: list[str] = []
        if os.path.isfile(f"{prefix}/pyvenv.cfg"):
            found.paths.append(prefix)
            found.path_entries.append(f"{prefix}/bin")
            home = _pyvenv_home(f"{prefix}/pyvenv.cfg")
            for step in _links(program):
                found.paths += self._installation(step)
            base = os.path.join(home, os.path.basename(base_program))
            if home and os.path.isfile(base):
                found.paths += self._installation(base)
            packages = _site_packages(prefix)
            for directory in packages:
                found.in_place += [path for path in _editable(directory) if self._is_project(path)]
            found.paths += found.in_place
        found.paths += self._installation(base_program)
        return packages

    # --- anything else -----------------------------------------------------------------------------

    def script(self, program: str, rest: list[str]) -> Runtime:
        """A program of its own, or a script whose first line names what runs it."""
        real = os.path.realpath(program)
        interpreter = _interpreter(real)
        if interpreter:
            name = os.path.basename(interpreter)
            if name in _NODE or _is_python(name):
                path = which(interpreter, self._cwd, self._search)
                if name in _NODE:
                    return self.node(path, [real, *rest])
                return self.python(path, [real, *rest])
        found = Runtime("binary", [real, *rest], 1)
        found.paths.append(real)
        return found

    def _installation(self, program: str) -> list[str]:
        """The directory a program was installed into, where that is its own; else the program alone."""
        if in_system(program):
            return []
        prefix = os.path.dirname(os.path.dirname(program))
        if os.path.basename(os.path.dirname(program)) == "bin" and not self._fence.reason(prefix):
            return [prefix]
        return [program] if os.path.exists(program) else []

    def _is_project(self, path: str) -> bool:
        """Whether a directory may be given and is of a Python project: any package could name any directory."""
        if self._fence.reason(path) or in_system(path):
            return False
        for directory in (path, *list(_ancestors(path))[:2]):
            if not self._fence.reason(directory) and any(os.path.isfile(f"{directory}/{one}") for one in _PYTHON_FILES):
                return True
        return False

    def _project(self, script: str) -> str:
        for directory in _ancestors(script):
            if any(os.path.exists(f"{directory}/{name}") for name in _PROJECT_FILES):
                return directory
        return os.path.dirname(script)

    def _whole_or(self, root: str, script: str) -> list[str]:
        """A package's root, or only the script where that root may not be given."""
        if in_system(root):
            return []
        if not self._fence.reason(root):
            return [root]
        directory = os.path.dirname(script)
        return [script if self._fence.reason(directory) else directory]


def _ancestors(path: str) -> Iterator[str]:
    for _ in range(_ANCESTORS):
        path = os.path.dirname(path)
        if path in {"", "/"}:
            return
        yield path


def _links(path: str) -> Iterator[str]:
    """The steps from a link to what it stands for."""
    for _ in range(_ANCESTORS):
        try:
            target = os.readlink(path)
        except OSError:
            return
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
        yield path


def _interpreter(path: str) -> str:
    """What runs a script, from its first line; '' for a program. Also the long form that installers write."""
    head = _content(path, _SHEBANG_BYTES)
    if not head.startswith(b"#!"):
        return ""
    lines = head.decode("utf-8", "replace").split("\n")
    words = lines[0][2:].split()
    if len(words) > 1 and os.path.basename(words[0]) == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    elif words and os.path.basename(words[0]) == "sh" and len(lines) > 1 and lines[1].startswith("'''exec'"):
        words = lines[1].split()[1:]
    return words[0].strip("\"'") if words else ""


def _npm_name(script: str) -> str:
    """Of the outermost package: one that it brings along may have any name. pnpm keeps all of them in one directory."""
    first = script.partition("/node_modules/")[2]
    parts = (first.partition("/node_modules/")[2] if first.startswith(".pnpm/") else first).split("/")
    return "/".join(parts[:2]) if parts[0].startswith("@") else parts[0]


def _content(path: str, most: int) -> bytes:
    """The beginning of a regular file from outside; empty where there is none. A named pipe does not hold us up."""
    import stat

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with open(fd, "rb") as file:
        try:
            return file.read(most) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        except OSError:
            return b""


def _json(path: str) -> dict[str, object]:
    """A small JSON object from outside; empty where there is none or it is not one."""
    import jiter

    content = _content(path, _SMALL_FILE_BYTES + 1)
    try:
        found = jiter.from_json(content) if 0 < len(content) <= _SMALL_FILE_BYTES else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _pyvenv_home(path: str) -> str:
    for line in _content(path, _SHEBANG_BYTES).decode("utf-8", "replace").splitlines():
        name, _, value = line.partition("=")
        if name.strip().lower() == "home":
            return value.strip()
    return ""


def _site_packages(prefix: str) -> list[str]:
    try:
        names = os.listdir(f"{prefix}/lib")
    except OSError:
        return []
    found = [f"{prefix}/lib/{name}/site-packages" for name in names if name.startswith(("python", "pypy"))]
    return [path for path in found if os.path.isdir(path)]


def _editable(packages: str) -> Iterator[str]:
    """Directories of packages that were installed in place: lines of .pth files, and direct_url.json (PEP 610)."""
    for name in os.listdir(packages):
        if name.endswith(".pth"):
            lines = _content(f"{packages}/{name}", _SMALL_FILE_BYTES).decode("utf-8", "replace").splitlines()
            lines = [line for line in lines if "\0" not in line]
            yield from (os.path.realpath(line) for line in lines if os.path.isabs(line) and os.path.isdir(line))
        elif name.endswith(".dist-info"):
            found = _json(f"{packages}/{name}/direct_url.json")
            url, kind = found.get("url"), found.get("dir_info")
            if isinstance(url, str) and url.startswith("file:///") and isinstance(kind, dict) and kind.get("editable"):
                from urllib.parse import unquote

                path = os.path.realpath(unquote(url[7:]).replace("\0", "/"))
                if os.path.isdir(path):
                    yield path


def _installed(name: str, packages: Sequence[str]) -> str:
    """A package's normal name, where a distribution of that name is installed; '' where none is."""
    if not name:
        return ""
    normal = name.removesuffix(".py").replace("_", "-").replace(".", "-")
    for directory in packages:
        for entry in os.listdir(directory):
            distribution = entry.removesuffix(".dist-info").rpartition("-")[0]
            if entry.endswith(".dist-info") and distribution.lower().replace("_", "-").replace(".", "-") == normal:
                return normal
    return ""
