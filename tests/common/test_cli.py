from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from pydantic import SecretStr

from culling.common import cli, errors
from culling.common.cli import EXIT_CODES, GROUPS, Command, commands, main
from culling.common.config import LAST_SEED, Section, Settings


def run(*arguments: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    """Run `culling` in a process of its own, after `prelude`."""
    code = f"import sys; {prelude}\nfrom culling.common.cli import main\nsys.exit(main({list(arguments)!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


Body = Callable[[], object]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Body], str]:
    """Put a command with the given body into the table; returns its name."""

    def put(body: Body) -> str:
        module = ModuleType("culling_plugin")
        module.app = typer.Typer()  # type: ignore[attr-defined]
        module.app.command()(body)
        monkeypatch.setitem(sys.modules, "culling_plugin", module)
        monkeypatch.setitem(commands(), "edge", Command("culling_plugin:app", "", "edge"))
        return "edge"

    return put


def raising(error: BaseException) -> Body:
    def body() -> None:
        raise error

    return body


def all_errors(root: type[errors.CullingError] = errors.CullingError) -> list[type[errors.CullingError]]:
    return [root, *(found for below in root.__subclasses__() for found in all_errors(below))]


class TestHelp:
    def test_help_imports_no_heavy_library(self) -> None:
        heavy = "{'torch', 'onnxruntime', 'onnx', 'av', 'sqlalchemy', 'matplotlib'} & set(sys.modules)"
        done = run("--help", prelude=f"import atexit; atexit.register(lambda: print('loaded', {heavy}))")
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("loaded set()\n")

    def test_help_lists_every_command_and_its_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--help"]) == 0
        out = capsys.readouterr().out
        assert all(name in out for name in [*{words.split()[0] for words in commands()}, "print-config"])

    def test_help_documents_every_exit_code(self, capsys: pytest.CaptureFixture[str]) -> None:
        documented = {int(line.split()[0]) for line in EXIT_CODES}
        assert documented == {0, 130} | {error.exit_code for error in all_errors()}
        assert main(["--help"]) == 0
        assert re.search(r"9\s+extra\s+not\s+installed", capsys.readouterr().out)

    def test_help_of_a_command_shows_its_defaults(
        self, command: Callable[[Body], str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def body(rounds: int = 3) -> None: ...

        assert main([command(body), "--help"]) == 0
        assert re.search(r"--rounds.*default: 3", capsys.readouterr().out)

    def test_no_word_at_all_shows_the_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([]) == 2
        assert "print-config" in capsys.readouterr().out


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"culling {version('culling')}\n"


@pytest.mark.parametrize("words", sorted(commands() | GROUPS))
def test_every_command_that_is_registered_can_be_called(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words.split(), "--help"]) == 0
    assert f"culling {words}" in capsys.readouterr().out


@pytest.mark.parametrize("words", sorted(GROUPS))
def test_a_group_lists_what_is_below_it(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    below = {name.removeprefix(f"{words} ").split()[0] for name in commands() if name.startswith(f"{words} ")}
    assert below
    assert main([*words.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"\b{name}\b", out) for name in below)


def leaves() -> dict[str, Any]:
    """Every command that does something, by its words."""
    return {words: command for words, command in _tree(_root()) if not hasattr(command, "list_commands")}


def _root() -> Any:
    return typer.Context(typer.main.get_command(cli.root()), info_name="culling")


def _tree(context: Any) -> Iterator[tuple[str, Any]]:
    yield context.command_path, context.command
    for name in context.command.list_commands(context) if hasattr(context.command, "list_commands") else ():
        _, below, _ = context.command.resolve_command(context, [name])
        yield from _tree(typer.Context(below, info_name=name, parent=context))


def _parse(words: str) -> str:
    """Parse a whole command, running nothing; return the words that lead to it. Raises what a wrong one raises."""
    context, rest = _root(), shlex.split(words)[1:]
    while hasattr(context.command, "list_commands"):
        name, below, rest = context.command.resolve_command(context, rest)
        context = typer.Context(below, info_name=name, parent=context)
    context.command.make_context(context.info_name, rest, parent=context.parent)
    return str(context.command_path)


def test_the_help_of_every_command_has_an_example_of_a_whole_command_that_parses() -> None:
    found = leaves()
    assert len(found) > 40
    for words, command in found.items():
        assert command.epilog, f"{words}: its help has no example"
        assert command.epilog.startswith("Example: "), words
        assert _parse(command.epilog.removeprefix("Example: ")) == words


@pytest.mark.parametrize("wrong", ["culling cloud status --jsn", "culling cloud rounds --limit x", "culling clod"])
def test_an_example_that_does_not_parse_would_be_found(wrong: str) -> None:
    with pytest.raises(typer.TyperException):
        _parse(wrong)


def test_a_camera_is_given_by_position_and_settings_the_same_way_everywhere() -> None:
    for words, command in leaves().items():
        options = {name: one for one in command.params for name in one.opts if name.startswith("--")}
        assert "--camera" not in options, words
        if "--config" in options:
            assert not options["--config"].required, words
            assert "--set" in options, words
        if "--set" in options:
            assert options["--set"].metavar == "KEY=VALUE", words
            assert "`culling settings" in options["--set"].help, words


class TestTables:
    @pytest.fixture(autouse=True)
    def _afresh(self) -> Iterator[None]:
        commands.cache_clear()
        yield
        commands.cache_clear()

    def test_another_package_may_add_a_command(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plugin = ModuleType("culling_plugin")
        plugin.app = typer.Typer()  # type: ignore[attr-defined]
        plugin.app.command()(lambda: print("hello"))
        plugin.COMMANDS = {"greet": Command("culling_plugin:app", "Say hello.", "")}  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "culling_plugin", plugin)
        monkeypatch.setattr(cli, "entry_points", registered("culling_plugin:COMMANDS"))
        assert main(["greet"]) == 0
        assert capsys.readouterr().out == "hello\n"

    def test_a_package_whose_table_is_gone_is_named(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(cli, "entry_points", registered("package_that_is_gone:COMMANDS"))
        assert main(["--help"]) == 1
        err = capsys.readouterr().err
        assert err.startswith("culling: commands of package_that_is_gone:COMMANDS cannot be loaded")

    def test_a_command_that_is_added_twice_is_named(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        plugin = ModuleType("culling_plugin")
        plugin.COMMANDS = {"edge": Command("culling_plugin:app", "", "")}  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "culling_plugin", plugin)
        monkeypatch.setattr(cli, "entry_points", registered("culling_plugin:COMMANDS"))
        assert main(["edge"]) == 1
        assert "`culling edge`, which exists already" in capsys.readouterr().err


def registered(value: str) -> Callable[..., list[EntryPoint]]:
    """Return entry points as they are installed, with one more table."""
    return lambda group: [*entry_points(group=group), EntryPoint("plugin", value, group)]


class TestEndings:
    def test_a_command_that_ends_well_exits_with_0(self, command: Callable[[Body], str]) -> None:
        assert main([command(lambda: None)]) == 0

    @pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
    def test_an_error_of_ours_is_one_line_and_its_code(
        self, kind: type[errors.CullingError], command: Callable[[Body], str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        reasoned = issubclass(kind, errors.ManifestError | errors.ProtocolError)
        error = kind(*(["reason"] if reasoned else []), "gate: two\nlines")
        assert main([command(raising(error))]) == kind.exit_code
        assert capsys.readouterr().err == "culling: gate: two lines\n"

    def test_an_error_never_shows_a_password(
        self, command: Callable[[Body], str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([command(raising(errors.CameraError("rtsp://me:hunter2@cam/1: refused")))]) == 4
        assert capsys.readouterr().err == "culling: rtsp://***@cam/1: refused\n"

    def test_an_interrupt_exits_with_130(
        self, command: Callable[[Body], str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main([command(raising(KeyboardInterrupt()))]) == 130
        assert "Traceback" not in capsys.readouterr().err

    def test_a_command_may_choose_its_code(self, command: Callable[[Body], str]) -> None:
        assert main([command(raising(typer.Exit(7)))]) == 7

    def test_a_fault_of_ours_is_logged_without_the_password(self) -> None:
        prelude = "\n".join(
            [
                "import types, typer",
                "plugin = types.ModuleType('culling_plugin'); plugin.app = typer.Typer()",
                "@plugin.app.command()",
                "def body(): raise ZeroDivisionError('rtsp://me:hunter2@cam/1')",
                "sys.modules['culling_plugin'] = plugin",
                "from culling.common import cli",
                "cli.commands()['edge'] = cli.Command('culling_plugin:app', '', 'edge')",
            ]
        )
        done = run("edge", prelude=prelude)
        assert done.returncode == 1
        assert "ZeroDivisionError: rtsp://***@cam/1" in done.stderr
        assert "hunter2" not in done.stderr


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (["edgy"], "culling: No such command 'edgy'. Did you mean 'edge'? (see --help)\n"),
            (["--versoin"], "culling: No such option: --versoin"),
            (["print-config"], "culling: Missing argument 'SIDE"),
            (["print-config", "middle"], "culling: Invalid value for 'SIDE"),
        ],
    )
    def test_a_wrong_word_is_one_line(
        self, arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert err.lower().startswith(line.lower())
        assert err.count("\n") == 1


class TestExtras:
    def test_a_library_that_is_missing_at_import_names_the_extra(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(commands(), "cloud", Command("lib_that_is_not_there:app", "", "cloud"))
        assert main(["cloud", "serve"]) == errors.MissingExtraError.exit_code
        err = capsys.readouterr().err
        assert err == (
            "culling: `culling cloud` needs lib_that_is_not_there; install it with: pip install 'culling[cloud]'\n"
        )

    def test_a_library_that_is_missing_while_it_runs_names_the_extra_too(
        self, command: Callable[[Body], str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def body() -> None:
            import_module("lib_that_is_not_there")

        assert main([command(body)]) == 9
        assert "pip install 'culling[edge]'" in capsys.readouterr().err

    def test_the_cloud_command_on_an_edge_install_says_so(self) -> None:
        absent = "sys.modules.update(dict.fromkeys(['sqlalchemy', 'torch', 'torchvision', 'safetensors']))"
        done = run("cloud", "serve", "--config", "x.toml", prelude=absent)
        assert done.returncode == 9, done.stderr
        assert done.stderr.count("\n") == 1
        assert "pip install 'culling[cloud]'" in done.stderr

    @pytest.mark.parametrize("words", [["bench", "student"], ["bench", "memory", "cloud"]])
    def test_a_bench_of_the_cloud_on_an_edge_install_says_so(self, words: list[str]) -> None:
        absent = "sys.modules.update(dict.fromkeys(['sqlalchemy', 'torch', 'torchvision', 'safetensors']))"
        done = run(*words, prelude=absent)
        assert done.returncode == 9, done.stderr
        assert f"`culling {' '.join(words)}` needs" in done.stderr
        assert "pip install 'culling[cloud]'" in done.stderr

    def test_a_bench_of_the_edge_needs_no_torch(self) -> None:
        absent = "sys.modules.update(dict.fromkeys(['sqlalchemy', 'torch', 'torchvision', 'safetensors']))"
        assert run("bench", "edge", "--help", prelude=absent).returncode == 0

    def test_a_module_of_ours_that_is_missing_is_a_fault_not_an_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(commands(), "cloud", Command("culling.nowhere:app", "", "cloud"))
        with pytest.raises(ModuleNotFoundError):
            main(["cloud"])


class TestPrintConfig:
    class Link(Section):
        endpoint: str = "tcp://127.0.0.1:5577"
        secret_key: SecretStr = SecretStr("")

    @pytest.fixture(autouse=True)
    def _settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class EdgeSettings(Settings):
            cloud: TestPrintConfig.Link = TestPrintConfig.Link()

        module = ModuleType("culling.edge.settings")
        module.EdgeSettings = EdgeSettings  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "culling.edge.settings", module)

    def test_every_setting_in_force_is_printed_with_secrets_hidden(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "edge.toml").write_text('[cloud]\nsecret_key = "hunter2"\n')
        monkeypatch.setenv("CULLING_CLOUD__ENDPOINT", "tcp://cloud:1")
        assert main(["print-config", "edge", "--config", str(tmp_path / "edge.toml")]) == 0
        assert capsys.readouterr().out == '[cloud]\nendpoint = "tcp://cloud:1"\nsecret_key = "**********"\n'

    def test_an_override_is_in_force_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["print-config", "edge", "--set", "cloud.endpoint=tcp://cloud:2"]) == 0
        assert 'endpoint = "tcp://cloud:2"' in capsys.readouterr().out
        assert main(["print-config", "edge", "--set", "cloud.endpoint"]) == 2
        assert "KEY=VALUE" in capsys.readouterr().err

    def test_a_wrong_setting_is_one_line_and_exit_code_2(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "edge.toml").write_text("[clod]\n")
        assert main(["print-config", "edge", "--config", str(tmp_path / "edge.toml")]) == 2
        err = capsys.readouterr().err
        assert err == f"culling: {tmp_path / 'edge.toml'}: clod is not a setting; did you mean cloud?\n"


def test_the_module_runs_like_the_command() -> None:
    module = [sys.executable, "-m", "culling.common.cli", "--version"]
    assert subprocess.run(module, capture_output=True, text=True, check=True).stdout.startswith("culling ")


DEAF = """
import os, signal, weakref
class Gone: pass
gone = Gone()
watched = weakref.ref(gone, lambda _: os.kill(os.getpid(), signal.SIGINT))
del gone  # Python only prints what is raised in such a callback
"""


def test_sigint_ends_a_command_that_is_being_imported_wherever_it_is(tmp_path: Path) -> None:
    (tmp_path / "deaf.py").write_text(DEAF)
    load = "from culling.common.cli import Command; Command('deaf:app', '', '').load()"
    ended = subprocess.run([sys.executable, "-c", load], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


def test_what_sigint_does_is_changed_only_while_a_command_is_imported(command: Callable[[Body], str]) -> None:
    seen: list[object] = []
    assert main([command(lambda: seen.append(signal.getsignal(signal.SIGINT)))]) == 0
    assert seen == [signal.default_int_handler]
    held = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        commands()["edge"].load()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN, "as in the background of a shell"
    finally:
        signal.signal(signal.SIGINT, held)


def test_no_seed_of_any_command_is_one_that_numpy_or_torch_refuses() -> None:
    waiting, bounds = [typer.main.get_command(one.load()) for one in commands().values()], list[tuple[int, int]]()
    while waiting:
        one = waiting.pop()
        waiting += getattr(one, "commands", {}).values()
        bounds += [(vars(each)["min"], vars(each)["max"]) for each in one.params if each.name == "seed"]
    assert len(bounds) > 10
    assert set(bounds) == {(0, LAST_SEED)}
