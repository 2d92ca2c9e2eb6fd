"""Client files as people and programs write them: comments, odd indents, every way to write a string and a list.

Each strategy draws `(model, text)`: the servers as they are meant, and a document that says so.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

Model = dict[str, dict[str, Any]]

_SAFE = st.characters(
    codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\u2028\u2029\x85\ufeff\ufffe\uffff"
)
WORDS = st.one_of(
    st.sampled_from(
        ["npx", "-y", "--", "@scope/pkg@1.2.3", "C:\\Program Files\\x.exe", "", "a b", '"', "'", "#", "// x"]
    ),
    st.sampled_from(
        ["é", "日本", "\U0001f600", "null", "true", "~", "1", "{x}", "[y]", ", ", ": ", "*a", "&b", "${input:k}"]
    ),
    st.text(_SAFE, max_size=12),
)
NAMES = st.one_of(
    st.sampled_from(["files", "github", "a b", "ünïcode", "x.y", "with/slash", "0", "quote'd", "command", "env"]),
    st.text(_SAFE, min_size=1, max_size=8),
)
VALUES = st.one_of(WORDS, WORDS.map("hunter2".__add__), WORDS.map(lambda word: f"{word}hunter2"))
"""Of variables: some are credentials."""
PROGRAMS = WORDS.filter(lambda word: bool(word.strip()))


@st.composite
def entry(draw: st.DrawFn) -> dict[str, Any]:
    """A server on stdin and stdout, its members in any order."""
    found: dict[str, Any] = {"command": draw(PROGRAMS)}
    if draw(st.booleans()):
        found["args"] = draw(st.lists(WORDS, max_size=4))
    if draw(st.booleans()):
        found["env"] = draw(st.dictionaries(st.sampled_from(["A", "TOKEN", "b"]), VALUES, max_size=2))
    if draw(st.booleans()):
        found["disabled"] = draw(st.booleans())
    if draw(st.booleans()):
        found["timeout"] = draw(st.integers(0, 10**6))
    order = draw(st.permutations(sorted(found)))
    return {key: found[key] for key in order}


MODELS = st.dictionaries(NAMES, entry(), min_size=1, max_size=3)

# --- JSON with comments --------------------------------------------------------------------------


@st.composite
def jsonc(draw: st.DrawFn, key: str = "mcpServers") -> tuple[Model, str]:
    """A document with anything JSON readers of editors accept between its tokens."""
    model = draw(MODELS)
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    quiet = draw(st.booleans())  # as a program would write it
    indent = draw(st.sampled_from(["  ", "    ", "\t", " ", "   "]))
    trivia = st.sampled_from(["", " ", newline, f"{newline}\t ", f' // é "x" {newline}', "/* { */", f"/*{newline}*/ "])
    document = {"other": [1, -2.5e3, None], key: model, "z": {"command": "no server"}}
    if quiet:
        text = json.dumps(document, indent=draw(st.sampled_from([None, indent])), ensure_ascii=draw(st.booleans()))
        return model, text.replace("\n", newline) + draw(st.sampled_from(["", newline]))

    def gap() -> str:
        return draw(trivia)

    def write(value: Any, depth: int) -> str:
        line = newline + indent * depth if draw(st.booleans()) else ""
        if isinstance(value, dict):
            parts = [f"{line}{gap()}{write(k, 0)}{gap()}:{gap()}{write(v, depth + 1)}{gap()}" for k, v in value.items()]
            return "{" + gap() + ",".join(parts) + _trailing(draw, parts) + gap() + "}"
        if isinstance(value, list):
            parts = [f"{line}{gap()}{write(item, depth + 1)}{gap()}" for item in value]
            return "[" + gap() + ",".join(parts) + _trailing(draw, parts) + gap() + "]"
        return json.dumps(value, ensure_ascii=draw(st.booleans()))

    return model, gap() + write(document, 1) + gap()


def _trailing(draw: st.DrawFn, parts: list[str]) -> str:
    return "," if parts and draw(st.booleans()) else ""


# --- TOML ----------------------------------------------------------------------------------------


@st.composite
def toml(draw: st.DrawFn) -> tuple[Model, str]:
    """Tables, inline tables, dotted keys; four kinds of strings; arrays over lines with comments."""
    model = draw(MODELS)
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    comment = st.sampled_from(["", " ", ' # [x] = "é"', "\t"])
    pad = draw(st.sampled_from(["", "  ", "\t"]))

    def string(value: str) -> str:
        kinds = ["basic"]
        if "'" not in value and not any(ord(c) < 32 for c in value):
            kinds += ["literal", "long literal"]
        kinds.append("long")
        kind = draw(st.sampled_from(kinds))
        basic = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        if kind == "literal":
            return f"'{value}'"
        if kind == "long literal":
            return f"'''{draw(st.sampled_from(['', newline]))}{value}'''"
        if kind == "long":
            ends = draw(st.booleans()) and not value.endswith("\\")
            return f'""{basic[:-1]}"""' if not ends else f'""{basic[:-1]}\\{newline}  """'
        return basic

    def name(value: str) -> str:
        bare = value.isascii() and value.replace("-", "").replace("_", "").isalnum() and draw(st.booleans())
        return value if bare else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

    def write(value: Any, *, one_line: bool) -> str:
        if isinstance(value, str):
            return string(value)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int):
            return str(value)
        if isinstance(value, dict):
            inner = ", ".join(f"{name(k)} = {write(v, one_line=True)}" for k, v in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        if not one_line and draw(st.booleans()):
            inner = "".join(f"{newline}{pad} {write(item, one_line=False)},{draw(comment)}" for item in value)
            return f"[{draw(comment)}{inner}{newline}]"
        return (
            "[" + ",".join(f" {write(item, one_line=True)}" for item in value) + draw(st.sampled_from([" ", ""])) + "]"
        )

    lines = ["# é", 'title = "x"', ""]
    for key in sorted(model, key=lambda _: draw(st.integers(0, 5))):
        value = model[key]
        form = draw(st.sampled_from(["table", "sub-tables", "dotted"]))
        if form == "dotted":
            lines.append("[mcp_servers]" if "[mcp_servers]" not in lines else "")
        if form == "dotted" and lines[-1]:
            for member, item in value.items():
                lines.append(f"{pad}{name(key)} . {member} = {write(item, one_line=False)}{draw(comment)}")
        else:
            lines.append(f"{pad}[ mcp_servers . {name(key)} ]{draw(comment)}")
            later: list[str] = []
            for member, item in value.items():
                if isinstance(item, dict) and form == "sub-tables":
                    later.append(f"[mcp_servers.{name(key)}.{member}]")
                    later += [f"{name(k)}={write(v, one_line=False)}" for k, v in item.items()]
                else:
                    lines += [f"{pad}{member} = {write(item, one_line=False)}{draw(comment)}"]
                    lines += [""] * draw(st.integers(0, 1))
            lines += later
    return model, newline.join(lines) + draw(st.sampled_from(["", newline, newline + "[z]" + newline]))


# --- YAML ----------------------------------------------------------------------------------------


@st.composite
def yaml(draw: st.DrawFn, *, named: bool = False) -> tuple[Model, str]:
    """Block and flow collections, three ways to quote, comments where YAML allows them, sequences at any indent."""
    model = draw(MODELS)
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    step = draw(st.integers(1, 4))

    def string(value: str) -> str:
        quoted = "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(value, ensure_ascii=False))
        kinds = [quoted]
        if value.isprintable():
            kinds.append("'" + value.replace("'", "''") + "'")
        if (
            value.isascii()
            and value.isalpha()
            and value.lower() not in ("null", "true", "false", "yes", "no", "on", "off")
        ):
            kinds.append(value)
        return draw(st.sampled_from(kinds))

    def scalar(value: Any) -> str:
        return string(value) if isinstance(value, str) else json.dumps(value)

    def flow(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{string(k)}: {flow(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(flow(item) for item in value) + draw(st.sampled_from(["", " "])) + "]"
        return scalar(value)

    def end() -> str:
        return (
            draw(st.sampled_from(["", " # é: - x", "  "]))
            + newline
            + draw(st.sampled_from(["", newline, "# c" + newline]))
        )

    def block(value: Any, indent: int) -> str:
        if isinstance(value, dict) and value and draw(st.integers(0, 5)):
            rows = [f"{' ' * indent}{string(k)}:{under(v, indent)}" for k, v in value.items()]
            return end() + "".join(rows)
        if isinstance(value, list) and value and draw(st.booleans()):
            at = indent - draw(st.sampled_from([0, step])) if indent >= step else indent
            return end() + "".join(f"{' ' * at}-{' ' * draw(st.integers(1, 3))}{flow(item)}{end()}" for item in value)
        return " " + flow(value) + end()

    def under(value: Any, indent: int) -> str:
        return block(value, indent + step)

    rows = "".join(f"{string(k)}:{under(v, 0)}" for k, v in {"version": 1, "extra": [1, "x"]}.items())
    if named:
        items = ""
        for key, value in model.items():
            members = list({"name": key, **value}.items())
            first = True
            for member, item in members:
                lead = "- " if first else "  "
                items += f"  {lead}{member}:{block(item, 4 + step)}"
                first = False
        return model, f"# top{newline}{rows}mcpServers:{newline}{items}"
    servers = {
        key: {("cmd" if k == "command" else "envs" if k == "env" else k): v for k, v in value.items()}
        for key, value in model.items()
    }
    return model, f"{rows}extensions:{under(servers, 0)}"
