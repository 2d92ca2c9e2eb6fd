"""The sandbox a command line gets by default: what it names it sees, and nothing that nobody may have."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callgate.config import SandboxConfig
from callgate.errors import SandboxError
from callgate.sandbox.defaults import spec_for
from callgate.sandbox.defaults_paths import Fence, in_system, within
from callgate.sandbox.spec import MIB, Destination, Limits, SandboxSpec, SecretFile, Sentinel


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    home = tmp_path / "home"
    state = home / ".local" / "state" / "callgate"
    state.mkdir(parents=True)
    project = home / "project"
    (project / "docs").mkdir(parents=True)
    (project / "data.db").touch()
    (home / ".ssh").mkdir()
    (home / ".aws").mkdir()
    monkeypatch.setenv("HOME", str(home))
    return SimpleNamespace(home=home, state=state, project=project, path=tmp_path)


def make(
    world: SimpleNamespace,
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **config: object,
) -> tuple[SandboxSpec, tuple[str, ...]]:
    return spec_for(
        "server",
        argv,
        environment=environment or {},
        cwd=str(cwd or world.project),
        state=world.state,
        config=SandboxConfig(**config),  # type: ignore[arg-type]
    )


def mounts(spec: SandboxSpec) -> dict[str, bool]:
    return {mount.target or mount.source: mount.writable for mount in spec.mounts}


def program(path: Path, content: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)
    return path


class TestArguments:
    def test_directories_are_writable_and_files_read_only(self, world: SimpleNamespace) -> None:
        spec, argv = make(world, ["/usr/bin/env", str(world.project / "docs"), f"--db={world.project}/data.db", "-v"])
        assert mounts(spec) == {str(world.project / "docs"): True, str(world.project / "data.db"): False}
        assert argv[0] == "/usr/bin/env"

    def test_relative_paths_are_of_the_working_directory(self, world: SimpleNamespace) -> None:
        spec, argv = make(world, ["env", "docs", "./data.db", "--root", "."])
        assert mounts(spec)[str(world.project)] and spec.cwd == str(world.project)
        assert argv[1:] == ("docs", "./data.db", "--root", ".")

    def test_words_that_name_nothing_are_words(self, world: SimpleNamespace) -> None:
        spec, _ = make(
            world, ["env", "stdio", "--level=debug", "https://example.org/x", "", "a\0b", "x" * 5000, "/nothing"]
        )
        assert mounts(spec) == {} and spec.cwd == spec.home

    def test_links_show_what_they_stand_for_where_they_are(self, world: SimpleNamespace) -> None:
        (world.project / "link").symlink_to(world.project / "docs")
        spec, _ = make(world, ["env", "link"])
        (mount,) = spec.mounts
        assert (mount.source, mount.target) == (str(world.project / "docs"), str(world.project / "link"))

    @pytest.mark.parametrize("argument", ["serve", "./serve", "--root=serve", "serve/deep"])
    def test_a_project_s_links_lead_out_of_it_for_nobody(self, world: SimpleNamespace, argument: str) -> None:
        """A checkout, or a server that may write there, can lay a link under the name of any argument."""
        private = world.home / "Documents"
        (private / "deep").mkdir(parents=True)
        (world.project / "serve").symlink_to("../Documents")
        with pytest.raises(SandboxError, match="link out of the working directory") as caught:
            make(world, ["env", argument])
        assert "--write" in caught.value.next_step
        spec, _ = make(world, ["env", str(private)])
        assert mounts(spec) == {str(private): True}
        spec, _ = make(world, ["env", str(world.project / "serve")], cwd=world.home)
        assert spec.mounts[0].source == str(private)  # the user's own link

    def test_a_server_does_not_choose_what_it_is_given_next_time(self, world: SimpleNamespace) -> None:
        private = world.home / "Documents"
        private.mkdir()
        (world.project / "out").symlink_to(private)
        out = str(world.project / "out")
        with pytest.raises(SandboxError, match="that the server may write"):
            make(world, ["env", str(world.project)], cwd=world.home, read=(out,))
        with pytest.raises(SandboxError, match="that the server may write"):
            make(world, ["env", str(world.project), out], cwd=world.home)
        spec, _ = make(world, ["env", out], cwd=world.home)
        assert spec.mounts[0].source == str(private)

    def test_paths_of_the_system_need_no_mount(self, world: SimpleNamespace) -> None:
        spec, _ = make(world, ["env", "/usr/share", "/usr/bin/git", "/dev/null"])
        assert mounts(spec) == {}

    def test_settings_add_to_it(self, world: SimpleNamespace) -> None:
        spec, _ = make(
            world, ["env", "data.db"], write=(str(world.project / "data.db"),), read=(str(world.project / "docs"),)
        )
        assert mounts(spec) == {str(world.project / "data.db"): True, str(world.project / "docs"): False}

    def test_a_setting_that_names_nothing_is_an_error(self, world: SimpleNamespace) -> None:
        with pytest.raises(SandboxError, match="there is no"):
            make(world, ["env"], read=("/nothing/there",))


class TestFence:
    @pytest.mark.parametrize(
        "named",
        ["", ".ssh", ".aws", "..", "../..", "/", "/etc", "/proc", "/tmp", "/var", ".local", ".local/state/callgate",
         ".local/state/callgate/keys", ".config/callgate", "../../../../../../.."],
    )  # fmt: skip
    def test_what_is_never_given(self, world: SimpleNamespace, named: str) -> None:
        (world.state / "keys").mkdir()
        (world.home / ".config" / "callgate").mkdir(parents=True)
        path = os.path.join(world.home, named)
        for argv in (["env", path], ["env", f"--root={path}"]):
            with pytest.raises(SandboxError) as caught:
                make(world, argv)
            assert caught.value.next_step
        with pytest.raises(SandboxError):
            make(world, ["env"], environment={"ROOT": os.path.normpath(path)})
        for settings_ in ({"read": (path,)}, {"write": (path,)}):
            with pytest.raises(SandboxError):
                make(world, ["env"], **settings_)

    def test_not_through_a_link_either(self, world: SimpleNamespace) -> None:
        (world.project / "innocent").symlink_to(world.home / ".ssh")
        (world.project / "up").symlink_to(world.home)
        for name in ("innocent", "up", "up/.aws"):
            with pytest.raises(SandboxError):
                make(world, ["env", str(world.project / name)])

    def test_the_state_is_not_given_from_above(self, world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
        above = world.path / "elsewhere"
        (above / "state").mkdir(parents=True)
        with pytest.raises(SandboxError, match="state"):
            spec_for("s", ["env", str(above)], environment={}, cwd="/", state=above / "state", config=SandboxConfig())

    def test_another_server_s_home_is_not_given(self, world: SimpleNamespace) -> None:
        other = world.state / "servers" / "other" / "home"
        other.mkdir(parents=True)
        with pytest.raises(SandboxError, match="callgate keeps"):
            make(world, ["env", str(other)])

    def test_its_own_home_and_pinned_artefacts_are(self, world: SimpleNamespace) -> None:
        store = world.state / "artefacts" / "npm" / "x"
        own = world.state / "servers" / "server" / "home" / "data"
        store.mkdir(parents=True)
        own.mkdir(parents=True)
        spec, _ = make(world, ["env", str(own)], read=(str(store),))
        assert mounts(spec)[str(store)] is False

    def test_cousins_of_what_is_refused_are_given(self, world: SimpleNamespace) -> None:
        fence = Fence(str(world.state), str(world.state / "servers" / "x" / "home"))
        for name in (".sshx", "ssh", ".config/myapp", ".local/share/myapp", "Documents"):
            assert fence.reason(str(world.home / name)) == ""
        assert fence.reason("/var/lib/app") == "" and fence.reason("/etc/app") and fence.reason("/opt/app") == ""

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
    @given(
        parts=st.lists(st.sampled_from(["..", ".", "project", ".ssh", "docs", "/", "home", ".local", "x"]), max_size=8)
    )
    def test_whatever_is_named_nothing_forbidden_is_writable(self, world: SimpleNamespace, parts: list[str]) -> None:
        path = os.path.join(world.project, *parts)
        try:
            spec, _ = make(world, ["env", path])
        except SandboxError:
            return
        for mount in spec.mounts:
            assert within(mount.source, str(world.project)) or in_system(mount.source)


class TestEnvironment:
    def test_it_has_a_home_of_its_own_and_what_was_declared(self, world: SimpleNamespace) -> None:
        spec, _ = make(world, ["env"], environment={"A": "1", "PATH": "/usr/bin"})
        assert spec.home == str(world.state / "servers" / "server" / "home")
        assert dict(spec.environment) == {"A": "1", "PATH": "/usr/bin", "HOME": spec.home, "TMPDIR": "/tmp"}
        assert os.stat(spec.home).st_mode & 0o777 == 0o700
        assert "'1'" not in repr(spec)

    def test_a_home_that_cannot_be_made_is_said(self, world: SimpleNamespace) -> None:
        (world.state / "servers").write_text("a file in the way")
        with pytest.raises(SandboxError, match="cannot be made: ") as caught:
            make(world, ["env"])
        assert "next:" in caught.value.diagnostics()

    def test_its_home_may_have_another_name(self, world: SimpleNamespace) -> None:
        def under(home: str) -> str:
            state, settings_ = world.state, SandboxConfig()
            return spec_for("s", ["env"], environment={}, cwd="/", state=state, config=settings_, home=home)[0].home

        assert under("s-1") == str(world.state / "servers" / "s-1" / "home")
        for home in ("../other", "a/b", ".."):
            with pytest.raises(SandboxError):
                under(home)

    def test_variables_that_name_paths_are_as_arguments(self, world: SimpleNamespace) -> None:
        spec, _ = make(
            world,
            ["env"],
            environment={"DOCS": str(world.project / "docs"), "DB": f"{world.project}/data.db", "N": "docs"},
        )
        assert mounts(spec) == {str(world.project / "docs"): True, str(world.project / "data.db"): False}

    def test_device_files_and_search_paths_are_no_paths(self, world: SimpleNamespace) -> None:
        spec, _ = make(
            world, ["env"], environment={"GIT_CONFIG_GLOBAL": "/dev/null", "PATH": "/usr/bin", "TMPDIR": "/tmp"}
        )
        assert mounts(spec) == {}


class TestNode:
    def node(self, world: SimpleNamespace) -> Path:
        return program(world.home / ".nvm" / "versions" / "v22" / "bin" / "node", "binary")

    def test_the_installation_the_modules_and_the_script(self, world: SimpleNamespace) -> None:
        node = self.node(world)
        script = program(world.path / "store" / "node_modules" / "@acme" / "server" / "dist" / "index.js")
        link = world.path / "store" / "node_modules" / ".bin" / "server"
        link.parent.mkdir()
        link.symlink_to("../@acme/server/dist/index.js")
        spec, argv = make(world, [str(node), "--enable-source-maps", "-r", "x", str(link), "docs"])
        assert spec.kind == "node" and argv[4] == str(script)
        assert mounts(spec) == {
            str(node.parent.parent): False,
            str(world.path / "store" / "node_modules"): False,
            str(world.project / "docs"): True,
        }
        assert spec.environment["PATH"].startswith(str(node.parent))

    def test_a_project_s_own_script(self, world: SimpleNamespace) -> None:
        (world.project / "package.json").write_text('{"name": "mine"}')
        program(world.project / "src" / "index.js")
        spec, argv = make(world, [str(self.node(world)), "src/index.js"])
        assert argv[1] == str(world.project / "src" / "index.js") and mounts(spec)[str(world.project)] is False

    def test_a_workspace_keeps_its_modules_above(self, world: SimpleNamespace) -> None:
        (world.project / "node_modules").mkdir()
        package = world.project / "packages" / "one"
        program(package / "index.js")
        (package / "package.json").write_text("{}")
        spec, _ = make(world, [str(self.node(world)), str(package / "index.js")])
        assert mounts(spec).keys() >= {str(package), str(world.project / "node_modules")}

    @pytest.mark.parametrize("to", [".ssh", "Documents", "."])
    def test_modules_above_are_modules(self, world: SimpleNamespace, to: str) -> None:
        """A checkout can hold a link of that name to anywhere."""
        (world.home / "Documents").mkdir()
        package = world.project / "packages" / "one"
        program(package / "index.js")
        (package / "package.json").write_text("{}")
        (world.project / "node_modules").symlink_to(world.home / to)
        spec, _ = make(world, [str(self.node(world)), str(package / "index.js")])
        assert all(within(one, str(world.home / ".nvm")) or one == str(package) for one in mounts(spec))

    def test_a_script_in_the_home_is_given_alone(self, world: SimpleNamespace) -> None:
        (world.home / "package.json").write_text("{}")
        script = program(world.home / "server.js")
        spec, _ = make(world, [str(self.node(world)), str(script)])
        assert str(script) in mounts(spec) and str(world.home) not in mounts(spec)

    def test_a_script_by_its_first_line(self, world: SimpleNamespace) -> None:
        node = self.node(world)
        script = program(
            world.path / "store" / "node_modules" / "x" / "cli.js", "#!/usr/bin/env -S node --no-warnings\n"
        )
        spec, argv = make(world, [str(script)], environment={"PATH": f"{node.parent}:/usr/bin"})
        assert spec.kind == "node" and argv == (str(node), str(script))

    def test_code_on_the_command_line(self, world: SimpleNamespace) -> None:
        spec, argv = make(world, [str(self.node(world)), "-e", "1", "docs"])
        assert argv[1:] == ("-e", "1", "docs") and mounts(spec)[str(world.project / "docs")]

    def test_a_missing_script_is_an_error(self, world: SimpleNamespace) -> None:
        with pytest.raises(SandboxError, match="no script"):
            make(world, [str(self.node(world)), "nothing.js"])


class TestPython:
    @pytest.fixture
    def venv(self, world: SimpleNamespace) -> Path:
        base = world.home / ".pyenv" / "versions" / "3.12"
        program(base / "bin" / "python3.12", "binary")
        venv = world.path / "venv"
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").symlink_to(base / "bin" / "python3.12")
        (venv / "pyvenv.cfg").write_text(f"home = {base}/bin\nversion = 3.12\n")
        (venv / "lib" / "python3.12" / "site-packages").mkdir(parents=True)
        return venv

    def test_the_environment_and_what_it_stands_on(self, world: SimpleNamespace, venv: Path) -> None:
        spec, argv = make(world, [str(venv / "bin" / "python"), "-m", "thing", "docs"])
        assert spec.kind == "python" and argv[0] == str(venv / "bin" / "python")
        assert mounts(spec) == {
            str(venv): False,
            str(world.home / ".pyenv" / "versions" / "3.12"): False,
            str(world.project / "docs"): True,
        }

    @pytest.mark.parametrize("head", ["#!{0}\n", "#!/bin/sh\n'''exec' \"{0}\" \"$0\" \"$@\"\n' '''\n"])
    def test_an_installed_script(self, world: SimpleNamespace, venv: Path, head: str) -> None:
        script = program(venv / "bin" / "mcp-server-x", head.format(venv / "bin" / "python"))
        link = world.home / "bin" / "mcp-server-x"
        link.parent.mkdir()
        link.symlink_to(script)
        spec, argv = make(world, ["mcp-server-x"], environment={"PATH": f"{link.parent}:/usr/bin"})
        assert argv == (str(venv / "bin" / "python"), str(script)) and mounts(spec)[str(venv)] is False

    def test_what_is_installed_in_place_is_seen(self, world: SimpleNamespace, venv: Path) -> None:
        packages = venv / "lib" / "python3.12" / "site-packages"
        for name in ("one", "two"):
            (world.path / "src" / name).mkdir(parents=True)
        (world.path / "src" / "one" / "pyproject.toml").touch()
        (world.path / "src" / "setup.cfg").touch()
        (packages / "one.pth").write_text(f"import os; evil\n{world.path}/src/one\nrelative\n{world.home}\n")
        info = packages / "two-1.dist-info"
        info.mkdir()
        (info / "direct_url.json").write_text(
            json.dumps({"url": f"file://{world.path}/src/two", "dir_info": {"editable": True}})
        )
        (packages / "bad-1.dist-info").mkdir()
        (packages / "bad-1.dist-info" / "direct_url.json").write_text('{"url": [1], "url": {}')
        spec, _ = make(world, [str(venv / "bin" / "python"), "-m", "one"])
        assert {str(world.path / "src" / "one"), str(world.path / "src" / "two")} <= mounts(spec).keys()
        assert str(world.home) not in mounts(spec)
        assert any("src/one" in notice for notice in spec.notices)

    def test_a_package_does_not_choose_what_else_is_seen(self, world: SimpleNamespace, venv: Path) -> None:
        """A wheel can bring path files, and a project a whole environment: neither opens a directory of the user."""
        private = world.home / "Documents"
        private.mkdir()
        packages = venv / "lib" / "python3.12" / "site-packages"
        (packages / "x.pth").write_text(f"{private}\n{private}\0x\n")
        (packages / "x-1.dist-info").mkdir()
        (packages / "x-1.dist-info" / "direct_url.json").write_text(
            json.dumps({"url": f"file://{private}", "dir_info": {"editable": True}})
        )
        (venv / "pyvenv.cfg").write_text(f"home = {private}/bin\n")
        os.mkfifo(packages / "wait.pth")
        spec, _ = make(world, [str(venv / "bin" / "python"), "-m", "one"])
        assert not any(within(str(private), mount.source) for mount in spec.mounts)

    def test_a_module_of_the_working_directory(self, world: SimpleNamespace, venv: Path) -> None:
        (world.project / "thing.py").touch()
        spec, _ = make(world, [str(venv / "bin" / "python"), "-W", "ignore", "-m", "thing.main"])
        assert mounts(spec)[str(world.project)] is False and spec.cwd == str(world.project)

    def test_a_script_file(self, world: SimpleNamespace, venv: Path) -> None:
        (world.project / "pyproject.toml").touch()
        script = program(world.project / "src" / "server.py")
        spec, argv = make(world, [str(venv / "bin" / "python"), "-u", "src/server.py", "docs"])
        assert argv[2] == str(script) and mounts(spec)[str(world.project)] is False
        assert mounts(spec)[str(world.project / "docs")] is True

    def test_this_interpreter(self, world: SimpleNamespace) -> None:
        spec, argv = make(world, [sys.executable, "-c", "0"])
        assert os.path.exists(argv[0]) and spec.kind == "python"
        assert all(in_system(one) or one in mounts(spec) for one in [sys.prefix] if sys.prefix != sys.base_prefix)


class TestPrograms:
    def test_a_binary_is_given_alone(self, world: SimpleNamespace) -> None:
        binary = program(world.home / "bin" / "server", "\x7fELF")
        spec, argv = make(world, [str(binary), "docs"])
        assert spec.kind == "binary" and mounts(spec) == {str(binary): False, str(world.project / "docs"): True}
        assert argv[0] == str(binary)

    @pytest.mark.parametrize("name", ["", "nothing-of-that-name", "/nowhere/x", "docs", "data.db"])
    def test_a_program_that_is_not_there(self, world: SimpleNamespace, name: str) -> None:
        with pytest.raises(SandboxError):
            make(world, [name])
        with pytest.raises(SandboxError):
            make(world, [])

    @pytest.mark.parametrize("name", ["npx", "uvx", "bunx"])
    def test_what_fetches_at_each_start_needs_a_network(self, world: SimpleNamespace, name: str) -> None:
        tool = program(world.path / "tools" / name)
        with pytest.raises(SandboxError) as caught:
            make(world, [str(tool), "-y", "thing"])
        assert "trust lock" in caught.value.next_step
        spec, _ = make(world, [str(tool), "-y", "thing"], network=("registry.example",))
        assert spec.network == (Destination("registry.example"),)

    def test_a_container(self, world: SimpleNamespace) -> None:
        tool = program(world.path / "tools" / "docker")
        spec, argv = make(world, [str(tool), "run", "-v", f"{world.home}:/x", "image"])
        assert spec.kind == "container" and spec.mounts == () and argv[0] == str(tool)


class TestKnown:
    def installed(self, world: SimpleNamespace, package: str) -> list[str]:
        node = program(world.path / "node" / "bin" / "node", "binary")
        return [str(node), str(program(world.path / "store" / "node_modules" / package / "index.js"))]

    def test_a_variable_gets_a_value_in_the_home_and_it_is_said(self, world: SimpleNamespace) -> None:
        argv = self.installed(world, "@modelcontextprotocol/server-memory")
        spec, _ = make(world, argv)
        assert spec.environment["MEMORY_FILE_PATH"] == f"{spec.home}/memory.jsonl"
        assert any("MEMORY_FILE_PATH" in notice for notice in spec.notices)
        spec, _ = make(world, argv, environment={"MEMORY_FILE_PATH": str(world.project / "new.jsonl")})
        assert mounts(spec)[str(world.project)] is True
        assert any("it may write" in notice for notice in spec.notices)

    def test_a_file_to_be_written_behind_a_link_out_of_the_project(self, world: SimpleNamespace) -> None:
        (world.home / "Documents").mkdir()
        (world.project / "data").symlink_to("../Documents")
        argv = self.installed(world, "@modelcontextprotocol/server-memory")
        variables = {"MEMORY_FILE_PATH": "data/new.jsonl"}
        with pytest.raises(SandboxError, match="link out of the working directory"):
            make(world, argv, environment=variables)

    def test_a_file_to_be_written_in_a_forbidden_place(self, world: SimpleNamespace) -> None:
        argv = self.installed(world, "@modelcontextprotocol/server-memory")
        spec, _ = make(world, argv, environment={"MEMORY_FILE_PATH": str(world.home / "new.jsonl")})
        assert str(world.home) not in mounts(spec)
        (world.home / "old.jsonl").touch()
        spec, _ = make(world, argv, environment={"MEMORY_FILE_PATH": str(world.home / "old.jsonl")})
        assert mounts(spec)[str(world.home / "old.jsonl")] is True and str(world.home) not in mounts(spec)

    def test_hosts_are_proposed_only_when_none_is_set(self, world: SimpleNamespace) -> None:
        argv = self.installed(world, "@modelcontextprotocol/server-github")
        spec, _ = make(world, argv)
        assert spec.network == (Destination("api.github.com"),) and any("api.github.com" in n for n in spec.notices)
        spec, _ = make(world, argv, network=("github.example:8443",))
        assert spec.network == (Destination("github.example", 8443),) and spec.notices == ()

    def test_a_project_and_a_package_s_own_parts_do_not_name_themselves(self, world: SimpleNamespace) -> None:
        node = str(program(world.path / "node" / "bin" / "node", "binary"))
        (world.project / "package.json").write_text('{"name": "exa-mcp-server"}')
        own = program(world.project / "index.js")
        inner = program(world.path / "s/node_modules/evil/node_modules/exa-mcp-server/index.js")
        squat = program(world.path / "t/node_modules/mcp-server-fetch/index.js")  # known on PyPI, not on npm
        for script in (own, inner, squat):
            assert make(world, [node, str(script)])[0].network == ()
        kept = program(world.path / "p/node_modules/.pnpm/exa-mcp-server@1/node_modules/exa-mcp-server/index.js")
        assert make(world, [node, str(kept)])[0].network == (Destination("api.exa.ai"),)

    def test_a_name_is_believed_only_where_the_package_is_installed(self, world: SimpleNamespace) -> None:
        venv = world.path / "venv"
        python = program(venv / "bin" / "python", "binary")
        (venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
        packages = venv / "lib" / "python3.12" / "site-packages"
        packages.mkdir(parents=True)
        script = program(venv / "bin" / "mcp-server-fetch", f"#!{python}\n")
        assert make(world, [str(script)])[0].network == ()
        (packages / "mcp_server_fetch-1.0.dist-info").mkdir()
        for argv in ([str(script)], [str(python), "-m", "mcp_server_fetch"]):
            spec, _ = make(world, argv)
            assert Destination("*", 443) in spec.network and any("every public host" in n for n in spec.notices)


def test_limits_secrets_and_network_arrive(world: SimpleNamespace) -> None:
    spec, _ = spec_for(
        "s",
        ["env"],
        environment={},
        cwd="",
        state=world.state,
        config=SandboxConfig(
            processes=3, memory_mib=100, cpus=1.5, file_mib=4, disk_mib=5, descriptors=66, network=("a.example",)
        ),
        extra_network=("b.example:80", Destination("c.example"), "a.example"),
        secret_files=[SecretFile("k", b"v")],
        sentinels=[Sentinel("n", "p", b"v", ("a.example",))],
    )
    assert spec.limits == Limits(3, 100 * MIB, 1.5, 4 * MIB, 5 * MIB, 66)
    assert [f"{one.host}:{one.port}" for one in spec.network] == ["a.example:443", "b.example:80", "c.example:443"]
    assert spec.secret_files[0].path == "/run/secrets/k" and spec.sentinels[0].name == "n"


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "a" * 65, ".x", "a b"])
def test_a_name_that_is_no_name_is_refused(world: SimpleNamespace, name: str) -> None:
    with pytest.raises(SandboxError, match="name"):
        spec_for(name, ["env"], environment={}, cwd="", state=world.state, config=SandboxConfig())


@pytest.mark.parametrize("host", ["evil\0.example", "127.0.0.1", "*.com"])
def test_a_host_that_is_none_is_refused(world: SimpleNamespace, host: str) -> None:
    with pytest.raises(SandboxError):
        make(world, ["env"], network=(host,))


def test_a_database_named_on_the_command_line_can_be_written_at_its_second_start_too(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for _ in range(2):
        spec, _argv = spec_for(
            "db",
            ["/usr/bin/env", "--db-path", str(data / "data.db")],
            environment={"PATH": "/usr/bin"},
            cwd=str(tmp_path),
            state=tmp_path / "state",
            config=SandboxConfig(write=(str(data),)),
        )
        assert [(mount.source, mount.writable) for mount in spec.mounts if "data" in mount.source] == [
            (str(data), True)
        ]
        (data / "data.db").write_bytes(b"SQLite")
