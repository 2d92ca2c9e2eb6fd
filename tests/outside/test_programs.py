"""Which file a program is: an entry's PATH decides nothing that nobody else has decided."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from callgate.cli import settled
from callgate.config import Config, LaunchConfig
from callgate.errors import TrustError
from callgate.outside import caller, places, programs, remembered, variables
from callgate.outside.remembered import Remembered
from tests.outside.conftest import Program, path_of, settle

SYSTEM = "/usr/bin:/bin"


def remembered_as(state: Path, **paths: Path | str) -> None:
    """As the user's own command left it."""
    remembered.write(str(state), Remembered({name: str(path) for name, path in paths.items()}))
    caller.settle(Config(), state)


class TestEntry:
    """What a client started."""

    pytestmark = pytest.mark.usefixtures("entry")

    @pytest.mark.parametrize("place", ["node_modules/.bin", "bin", ".venv/bin"])
    def test_a_program_of_the_project_is_refused(
        self, project: Path, program: Program, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        evil = program(project / place, "npm")
        monkeypatch.setenv("PATH", path_of(evil.parent, SYSTEM))
        with pytest.raises(TrustError) as caught:
            programs.find("npm")
        assert str(evil) in caught.value.what
        assert "callgate doctor" in caught.value.next_step and "launch.programs" in caught.value.next_step

    @pytest.mark.parametrize("part", ["", ".", "bin", "../project/bin", "node_modules/.bin"])
    def test_relative_and_empty_parts_count_nowhere(
        self, project: Path, program: Program, monkeypatch: pytest.MonkeyPatch, part: str
    ) -> None:
        program(project / (part or "."), "some-tool")
        monkeypatch.setenv("PATH", f"{part}{os.pathsep}{SYSTEM}")
        assert programs.find("some-tool") == ""
        assert all(os.path.isabs(one) for one in programs.path("/usr/bin/env").split(os.pathsep))

    def test_another_directory_of_the_users_is_refused_too(
        self, tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A download, another clone: nobody can tell it from a version manager's."""
        evil = program(tmp_path / "home/Downloads/evil/bin", "uv")
        monkeypatch.setenv("PATH", path_of(evil.parent, SYSTEM))
        with pytest.raises(TrustError, match="none that you have used"):
            programs.find("uv")

    def test_what_the_user_used_is_taken_whatever_path_says(
        self, tmp_path: Path, project: Path, state: Path, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = program(tmp_path / "home/.nvm/versions/node/v24.1.0/bin", "npm")
        remembered_as(state, npm=mine)
        for value in (path_of(program(project / "bin", "npm").parent), "", "/usr/bin", path_of(mine.parent)):
            monkeypatch.setenv("PATH", value)
            assert programs.find("npm") == str(mine)

    def test_what_was_used_and_is_gone_or_everybodys_counts_no_more(
        self, tmp_path: Path, state: Path, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = program(tmp_path / "home/.nvm/bin", "some-tool")
        remembered_as(state, **{"some-tool": mine})
        monkeypatch.setenv("PATH", SYSTEM)
        mine.parent.chmod(0o777)
        assert programs.find("some-tool") == ""
        mine.parent.chmod(0o755)
        assert programs.find("some-tool") == str(mine)
        mine.unlink()
        assert programs.find("some-tool") == ""

    def test_a_state_directory_that_a_repository_brings_remembers_nothing(
        self, tmp_path: Path, project: Path, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An entry's options name any. What it says was written in another directory, or on another machine."""
        made, state = tmp_path / "made", project / "state"
        made.mkdir()
        remembered_as(made, **{"some-tool": program(project / "bin", "some-tool")})
        document = json.loads((made / remembered.NAME).read_text())
        monkeypatch.setenv("PATH", "/nowhere")
        assert programs.find("some-tool") == str(project / "bin/some-tool")
        state.mkdir()
        here = state.stat()
        for change in (
            {},
            {"directory": str(state)},
            {"directory": str(state), "number": here.st_ino, "user": -1},
            {"directory": str(state), "number": here.st_ino, "device": -1},
        ):
            content = json.dumps({**document, "made_in": {**document["made_in"], **change}})
            (state / remembered.NAME).write_text(content)
            caller.settle(Config(), state)
            assert programs.find("some-tool") == ""
        change = {"directory": str(state), "number": here.st_ino, "device": here.st_dev}
        (state / remembered.NAME).write_text(json.dumps({**document, "made_in": {**document["made_in"], **change}}))
        assert programs.find("some-tool") == str(project / "bin/some-tool")

    @pytest.mark.parametrize("kind", ["programs", "variables"])
    def test_settings_that_nobody_knows_to_be_the_users(
        self, tmp_path: Path, state: Path, home: Path, program: Program, kind: str
    ) -> None:
        named = {"npm": str(program(tmp_path / "other", "npm"))}
        given = LaunchConfig(programs=named) if kind == "programs" else LaunchConfig(variables=named)
        with pytest.raises(TrustError, match="are not taken") as caught:
            caller.settle(Config(launch=given, source=str(tmp_path / "other/callgate.toml")), state)
        assert "callgate trust prune --config" in caught.value.next_step
        caller.settle(Config(source=str(tmp_path / "other/callgate.toml")), state)  # it names none: nothing to refuse
        (home / ".config/callgate").mkdir(parents=True)
        caller.settle(Config(launch=given, source=str(home / ".config/callgate/callgate.toml")), state)
        settle(given, state)

    def test_the_users_settings_name_one(self, tmp_path: Path, state: Path, program: Program) -> None:
        mine = program(tmp_path / "home/tools", "npm")
        settle(LaunchConfig(programs={"npm": str(mine), "uv": str(tmp_path / "no/uv")}), state)
        assert programs.find("npm") == str(mine)
        with pytest.raises(TrustError, match=r"launch\.programs\.uv"):
            programs.find("uv")

    def test_what_root_has_installed_is_taken_from_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", SYSTEM)
        assert programs.find("env") == "/usr/bin/env"

    def test_what_is_nowhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        assert programs.find("no-such-program") == ""

    def test_beside_callgate_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        name = os.path.basename(sys.executable)
        monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
        assert programs.find(name) == os.path.join(os.path.dirname(sys.executable), name)

    @pytest.mark.parametrize("written", ["bin/docker", "./bin/docker", "{project}/bin/docker"])
    def test_a_launch_line_that_names_a_file(self, project: Path, program: Program, written: str) -> None:
        program(project / "bin", "docker")
        with pytest.raises(TrustError, match="the command names"):
            programs.find(written.format(project=project))
        assert programs.find("/usr/bin/env") == "/usr/bin/env"

    def test_what_a_program_starts_in_turn_is_not_the_projects(
        self, tmp_path: Path, project: Path, state: Path, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """npm's first line is `env node`."""
        manager = tmp_path / "home/.nvm/bin"
        program(manager, "node")
        remembered_as(state, npm=program(manager, "npm"))
        program(project / "bin", "node")
        monkeypatch.setenv("PATH", path_of(project / "bin", tmp_path / "home/other", SYSTEM))
        found = programs.path(programs.find("npm")).split(os.pathsep)
        assert found[0] == str(manager)
        assert str(project / "bin") not in found and str(tmp_path / "home/other") not in found
        assert "/usr/bin" in found
        assert shutil.which("node", path=os.pathsep.join(found)) == str(manager / "node")

    def test_a_wrapper_of_npm_without_a_node_beside_it(
        self, tmp_path: Path, state: Path, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node = program(tmp_path / "home/.volta/bin", "node")
        remembered_as(state, npm=program(tmp_path / "home/bin", "npm"), node=node)
        monkeypatch.setenv("PATH", SYSTEM)
        assert shutil.which("node", path=programs.path(programs.find("npm"))) == str(node)


class TestUser:
    """The user's own commands."""

    def test_path_is_what_it_is_in_a_shell(
        self, project: Path, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = program(project / ".venv/bin", "uv")  # activated
        monkeypatch.setenv("PATH", path_of("", ".", mine.parent, SYSTEM))
        assert programs.find("uv") == str(mine)
        assert programs.path(str(mine)) == path_of(mine.parent, "/usr/bin", "/bin")

    def test_a_directory_of_everybody_is_refused(
        self, tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tool = program(tmp_path / "open", "npm")
        tool.parent.chmod(0o777)
        monkeypatch.setenv("PATH", path_of(tool.parent, SYSTEM))
        with pytest.raises(TrustError, match="can be changed by every user") as caught:
            programs.find("npm")
        assert str(tool) in caught.value.what and "launch.programs" in caught.value.next_step

    def test_what_path_has_is_remembered(
        self, tmp_path: Path, project: Path, state: Path, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node = tmp_path / "home/.local/share/fnm/node-versions/v24/bin"
        npm = program(node, "npm")
        shell = tmp_path / "run" / "fnm_multishells"
        shell.mkdir(parents=True)
        (shell / "1234").symlink_to(node)  # of this shell alone: gone with it
        program(project / "node_modules/.bin", "uv")
        everybodys = program(tmp_path / "open", "op")
        everybodys.parent.chmod(0o777)
        folders = (project / "node_modules/.bin", shell / "1234", everybodys.parent)
        monkeypatch.setenv("PATH", path_of(*folders))
        caller.settle(Config(), state)
        programs.remember()
        assert remembered.read(str(state)).programs == {"npm": str(npm)}
        assert (state / remembered.NAME).stat().st_mode & 0o777 == 0o600

    def test_the_last_use_counts_and_what_is_not_there_now_stays(
        self, tmp_path: Path, project: Path, state: Path, program: Program, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old, new = program(tmp_path / "v22/bin", "npm"), program(tmp_path / "v24/bin", "npm")
        remembered_as(state, npm=old, uv=program(tmp_path / "uv/bin", "uv"))
        monkeypatch.setenv("PATH", path_of(new.parent))
        programs.remember()
        assert remembered.read(str(state)).programs == {"npm": str(new), "uv": str(tmp_path / "uv/bin/uv")}

    @pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{" * 9, b"x" * 300_000])
    def test_a_broken_file_remembers_nothing(self, state: Path, content: bytes) -> None:
        (state / remembered.NAME).write_bytes(content)
        assert remembered.read(str(state)) == Remembered()

    @pytest.mark.parametrize("member", ["programs", "settings"])
    @pytest.mark.parametrize("value", [None, 1, "npm", ["npm", 1], {"npm": 1, "uv": "uv"}, [{}]])
    def test_what_is_no_path_is_not_remembered(self, state: Path, member: str, value: object) -> None:
        remembered.write(str(state), Remembered())
        document = json.loads((state / remembered.NAME).read_text())
        (state / remembered.NAME).write_text(json.dumps({**document, member: value}))
        assert remembered.read(str(state)) == Remembered()

    def test_the_settings_it_worked_with_are_remembered(self, tmp_path: Path, state: Path) -> None:
        (tmp_path / "real.toml").touch()
        (tmp_path / "link.toml").symlink_to("real.toml")
        given = LaunchConfig(programs={"npm": "/usr/bin/npm"})
        for name in ("real.toml", "link.toml"):
            settled.settle(Config(launch=given, source=str(tmp_path / name)), state)
            assert remembered.read(str(state)).settings == (str(tmp_path / "real.toml"),)

    def test_what_a_client_started_remembers_nothing(
        self, tmp_path: Path, state: Path, program: Program, monkeypatch: pytest.MonkeyPatch, entry: None
    ) -> None:
        monkeypatch.setenv("PATH", path_of(program(tmp_path / "home/evil", "npm").parent))
        caller.settle(Config(), state)
        programs.remember()
        assert not (state / remembered.NAME).exists()


def test_npm_as_it_is_installed_starts_with_its_own_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, project: Path, home: Path, program: Program, entry: None, ran: Path
) -> None:
    """`/usr/bin/npm` is a link to a script whose first line is `env node`."""
    npm = shutil.which("npm")
    if not npm or not places.installed_by_root(npm):
        pytest.skip("root has installed no npm here")
    evil = program(project / "bin", "node")
    monkeypatch.setenv("PATH", path_of(os.path.dirname(npm), evil.parent))
    found = programs.find("npm")
    assert found == npm
    done = subprocess.run(
        [found, "--version"], env=variables.environment(found), cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not ran.exists()


@pytest.mark.parametrize(("command", "own"), [("run", False), ("hook", False), ("pins", True), ("trust", True)])
def test_only_commands_of_a_persons_own_are_a_persons(command: str, own: bool) -> None:
    code = (
        "import sys; from callgate.cli import main; from callgate.outside import caller\n"
        "try: main.main([sys.argv[1], '--help'])\n"
        "finally: print(caller.own(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, check=False, timeout=60)
    assert done.stderr.decode().split()[-1:] == [str(own)]
