"""Plugins: names, options, order, and errors that say which plugin and which option."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from hypervisor.errors import PluginError, TrapError
from hypervisor.traps.plugins import plugin_set
from hypervisor.traps.plugins.plugin_set import PluginSet


class Recorder:
    """A plugin with one option of each type."""

    def __init__(
        self, port: int = 0x300, loud: bool = False, label: str = "x", rate: float = 1.0, log: Path | None = None
    ) -> None:
        self.options = (port, loud, label, rate, log)

    def attach(self, vm: list[str]) -> None:
        vm.append(f"attach {plugin_set.current()}")
        self.vm = vm

    def reset(self) -> None:
        self.vm.append("reset")

    def detach(self) -> None:
        self.vm.append("detach")


class OnlyReset:
    def reset(self) -> None: ...


class Useless:
    pass


class BadAttach:
    def attach(self) -> None: ...


class Refuses:
    def attach(self, vm: object) -> None:
        raise TrapError("cpuid leaf 0x1 is taken by other.handler")


class Explodes:
    def __init__(self, fuse: int) -> None:
        raise ZeroDivisionError(f"fuse {fuse}")

    def attach(self, vm: object) -> None: ...


class OddTypes:
    def __init__(self, ports: range = range(3)) -> None: ...

    def attach(self, vm: object) -> None: ...


@dataclass
class AsDataclass:
    sides: int = 6

    def attach(self, vm: object) -> None: ...


HERE = __name__


def options(text: str) -> object:
    _, plugin = plugin_set.make(f"{HERE}:Recorder{text}")
    assert isinstance(plugin, Recorder)
    return plugin.options


def test_text_becomes_the_annotated_types() -> None:
    assert options("") == (0x300, False, "x", 1.0, None)
    assert options(",port=0x310,loud=on,label=a=b,rate=2.5,log=/tmp/l") == (0x310, True, "a=b", 2.5, Path("/tmp/l"))
    assert options(",label=one,,two,log=none") == (0x300, False, "one,two", 1.0, None)


def test_a_plugin_may_be_text_a_pair_a_class_or_an_instance() -> None:
    instance = AsDataclass(20)
    given = PluginSet([f"{HERE}:AsDataclass,sides=8", (f"{HERE}:AsDataclass", {"sides": "9"}), AsDataclass, instance])
    assert [plugin for _, plugin in given] == [AsDataclass(8), AsDataclass(9), AsDataclass(6), instance]
    assert [name for name, _ in given] == [f"{HERE}:AsDataclass"] * 2 + ["AsDataclass"] * 2
    assert len(given) == 4


def test_life_is_attach_in_order_reset_in_order_detach_in_reverse() -> None:
    log: list[str] = []
    several = PluginSet([Recorder, f"{HERE}:Recorder", OnlyReset])
    several.attach(log)
    several.reset()
    several.detach()
    several.detach()  # once is enough
    assert log == ["attach Recorder", f"attach {HERE}:Recorder", "reset", "reset", "detach", "detach"]
    assert plugin_set.current() is None


def test_a_failing_attach_detaches_what_was_attached_and_keeps_the_cause() -> None:
    log: list[str] = []
    with pytest.raises(PluginError, match=r"Plugin Refuses: attach failed: cpuid leaf 0x1 is taken by") as caught:
        PluginSet([Recorder, Refuses, Recorder]).attach(log)
    assert log == ["attach Recorder", "detach"]
    assert isinstance(caught.value.__cause__, TrapError)


def test_every_detach_runs_and_the_first_error_is_raised() -> None:
    class Clumsy:
        def attach(self, vm: list[str]) -> None: ...

        def detach(self) -> None:
            raise OSError("disk full")

    log: list[str] = []
    several = PluginSet([Recorder, Clumsy])
    several.attach(log)
    with pytest.raises(PluginError, match="Plugin Clumsy: detach failed: OSError: disk full"):
        several.detach()
    assert log[-1] == "detach"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (":Recorder,prt=1", r"has no option 'prt'\. Did you mean port\?"),
        (":Recorder,zzz=1", r"has no option 'zzz'\. Its options are: port, loud, label, rate, log\."),
        (":Recorder,port=many", r"the option 'port' is 'many'; it must be a whole number such as 10 or 0x300\."),
        (":Recorder,loud=maybe", r"the option 'loud' is 'maybe'; it must be on or off\."),
        (":Recorder,rate=fast", r"the option 'rate' is 'fast'; it must be a number such as 0\.5\."),
        (":Recorder,loud", r"'loud' is not an option; write key=value"),
        (":Recorder,port=1,port=2", r"the option 'port' is given twice; keep one\."),
        (":OddTypes,ports=3", r"the option 'ports' has the type range, which cannot be written as text"),
        (":Explodes", r"needs the option 'fuse'; write .*:Explodes,fuse=VALUE\."),
        (":Explodes,fuse=3", r"could not be constructed: ZeroDivisionError: fuse 3"),
        (":Useless", r"has none of attach\(vm\), reset\(\) and detach\(\)"),
        (":BadAttach", r"its method attach must be callable as attach\(self, vm\)\."),
        (":Nothing", r"has no class 'Nothing'\."),
        (":HERE", r"has no class 'HERE'\."),
    ],
)
def test_errors_name_the_plugin_and_say_what_to_write(text: str, sentence: str) -> None:
    with pytest.raises(PluginError, match=sentence) as caught:
        plugin_set.make(HERE + text)
    assert f"Plugin {HERE}:" in str(caught.value)


def test_modules_that_are_missing_broken_or_miss_others_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin_broken.py").write_text("1 / 0\n")
    (tmp_path / "plugin_needy.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for text, sentence in (
        ("plugin_absent:X", r"there is no module plugin_absent\. Install it, or put its directory on PYTHONPATH\."),
        ("plugin_broken:X", r"importing plugin_broken failed: ZeroDivisionError"),
        ("plugin_needy:X", r"plugin_needy needs the module no_such_module_at_all"),
    ):
        with pytest.raises(PluginError, match=sentence):
            plugin_set.make(text)


BROKEN = {
    "raise SystemExit(3)": "importing plugin_bad failed: SystemExit: 3",
    "raise GeneratorExit": "importing plugin_bad failed: GeneratorExit",
    "class P(": "importing plugin_bad failed: SyntaxError",
    "\udcff": "importing plugin_bad failed: SyntaxError",
    "def __getattr__(name): raise SystemExit": "importing plugin_bad failed: SystemExit",
    "class E(Exception):\n def __str__(self): raise E\nraise E": r"failed: E: \(and its text cannot be had\)",
    "raise ValueError('x' * 1_000_000)": "failed: ValueError: x{1000,2000} ...$",
    "class P:\n def __init__(self): raise SystemExit\n def reset(self): ...": "could not be constructed: SystemExit",
    "class P:\n def __init__(self, a: 'x y' = 1): ...": "constructor cannot be read: SyntaxError",
    "class P:\n def __getattr__(self, name): raise SystemExit(1)": "cannot be looked at: SystemExit: 1",
    "class M(type):\n def __call__(cls): raise SystemExit\nclass P(metaclass=M):\n def reset(self): ...": "SystemExit",
    "class P:\n reset = type": r"its method reset must be callable as reset\(self\)",
}
"""Sources of modules, with what is said of their class P."""


@pytest.mark.parametrize("source", BROKEN)
def test_whatever_a_plugin_raises_is_a_sentence(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugin_bad.py").write_text(source, errors="surrogateescape")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "plugin_bad", raising=False)
    with pytest.raises(PluginError, match=f"^Plugin plugin_bad:P.*{BROKEN[source]}"):
        plugin_set.make("plugin_bad:P")
    assert plugin_set.current() is None
    sys.modules.pop("plugin_bad", None)


class Ends:
    """A plugin whose hooks end with what it is given."""

    def __init__(self, log: list[str], attach: BaseException | None = None, detach: BaseException | None = None):
        self.log, self.raised = log, {"attach": attach, "detach": detach}

    def attach(self, vm: object) -> None:
        self.hook("attach")

    def detach(self) -> None:
        self.hook("detach")

    def hook(self, name: str) -> None:
        self.log.append(name)
        if (error := self.raised[name]) is not None:
            raise error


def test_an_exit_while_attaching_detaches_what_was_attached() -> None:
    log: list[str] = []
    with pytest.raises(PluginError, match="Plugin Ends: attach failed: SystemExit: 0"):
        PluginSet([Ends(log), Ends(log, attach=SystemExit(0)), Ends(log)]).attach(None)
    assert log == ["attach", "attach", "detach"]


def test_an_interrupt_is_the_users() -> None:
    """Ctrl-C while a plugin attaches goes on, but not before what was attached is detached: also the half of it."""
    log: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        PluginSet([Ends(log), Ends(log, attach=KeyboardInterrupt())]).attach(None)
    assert log == ["attach", "attach", "detach", "detach"]


def test_an_exit_while_detaching_keeps_nobody_from_detaching() -> None:
    log: list[str] = []
    plugin_set = PluginSet([Ends(log), Ends(log, detach=SystemExit(0))])
    plugin_set.attach(None)
    with pytest.raises(PluginError, match="Plugin Ends: detach failed: SystemExit: 0"):
        plugin_set.detach()
    assert log == ["attach", "attach", "detach", "detach"]


def install(directory: Path, package: str, entries: str) -> None:
    info = directory / f"{package}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{plugin_set.GROUP}]\n{entries}\n")


def test_installed_plugins_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "dicebox", f"test-dice = {HERE}:AsDataclass\ntwice = a:B")
    install(tmp_path, "rival", "twice = c:D")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert plugin_set.make("test-dice,sides=4") == ("test-dice", AsDataclass(4))
    with pytest.raises(PluginError, match=r"There is no plugin test-dise\. Did you mean test-dice\?"):
        plugin_set.make("test-dise")
    with pytest.raises(
        PluginError, match=r"There is no plugin qqqq\. There are: .*audit.*.*test-dice.*given as MODULE:CLASS"
    ):
        plugin_set.make("qqqq")
    with pytest.raises(PluginError, match=r"twice is announced by several packages: a:B \(dicebox\), c:D \(rival\)"):
        plugin_set.make("twice")
    with pytest.raises(PluginError, match="names no plugin"):
        plugin_set.make(",sides=4")
