"""``goblins.watch``: a module is saved, and the actors have its code."""

import importlib
import logging
import queue
import signal
import subprocess
import sys
import textwrap
import threading

import goblins
import pytest
from goblins import PersistenceEnv, Vat, spawn
from support import child_environment

# Only keeps a hang from lasting.
PATIENCE = 60

SOURCE = """
from goblins import actor, methods

def words():
    return "{text}"

@actor
def greeter(bcom, name):
    return methods(greet=lambda: words() + " " + name)
{more}
"""


class Watched:
    """A module in a folder of its own, and what a watch told."""

    def __init__(self, folder):
        self.file = folder / "watched_module.py"
        self.told = queue.Queue()
        self.write("hello")
        self.module = importlib.import_module("watched_module")

    def write(self, text, more=""):
        """As editors do it: a new file in the place of the old one."""
        draft = self.file.with_suffix(".draft")
        draft.write_text(SOURCE.format(text=text, more=more), encoding="utf-8")
        draft.replace(self.file)

    def env(self):
        return PersistenceEnv("watched", self.module.greeter)

    def roots(self):
        return spawn(self.module.greeter, "Ada")

    def next(self):
        return self.told.get(timeout=PATIENCE)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield Watched(folder)
    sys.modules.pop("watched_module", None)


def test_a_module_that_is_saved_gives_its_code_to_the_actors(place, watched):
    vat, greeter = place.spawn(watched.roots, env=watched.env())
    with goblins.watch(vat, watched.module, on_change=watched.told.put) as watch:
        assert watch.running
        for text in ("goodbye", "welcome back"):
            watched.write(text)
            report = watched.next()
            assert report.replaced == {"watched.greeter": 1}
            assert greeter.greet() == f"{text} Ada"
    assert not watch.running
    assert "watched_module" in repr(watch)
    _, greeter = place.restart(vat, env=watched.env())
    assert greeter.greet() == "welcome back Ada"


@pytest.mark.parametrize("more", ["1 / 0", "def broken(:", "raise SystemError('late')"])
def test_an_error_is_reported_and_the_old_code_goes_on(place, watched, caplog, more):
    vat, greeter = place.spawn(watched.roots, env=watched.env())
    with goblins.watch(vat, "watched_module", on_change=watched.told.put):
        with caplog.at_level(logging.ERROR, logger="goblins"):
            watched.write("broken", more)
            error = watched.next()
        assert isinstance(error, Exception)
        assert "the old code goes on" in caplog.text
        # Not even a function that the module had given anew before the error is left of it.
        assert greeter.greet() == "hello Ada"
        with vat:
            assert spawn(watched.module.greeter, "Bob").greet() == "hello Bob"
        watched.write("fine again")
        assert watched.next().ok
        assert greeter.greet() == "fine again Ada"


def test_code_that_can_not_be_used_leaves_module_and_actors_as_they_were(place, watched):
    vat, greeter = place.spawn(watched.roots, env=watched.env())
    with goblins.watch(vat, watched.module, on_change=watched.told.put):
        watched.write("new", "greeter = actor(version=1)(greeter.__wrapped__)")
        assert isinstance(watched.next(), goblins.MigrationError)
        assert greeter.greet() == "hello Ada"
        assert watched.module.words() == "hello"
        assert greeter.greet() == "hello Ada"


def test_it_runs_on_a_daemon_thread_and_touches_no_signal_handler(vat, watched):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with goblins.watch(vat, watched.module):
        (thread,) = [one for one in threading.enumerate() if one.name.startswith("goblins-watch")]
        assert thread.daemon
        assert {number: signal.getsignal(number) for number in handlers} == handlers
    assert not thread.is_alive()


def test_a_watch_may_be_stopped_twice_and_ends_with_its_vat(watched):
    vat = Vat()
    watch = goblins.watch(vat, watched.module)
    vat.close()
    watch._thread.join(PATIENCE)
    assert not watch.running
    watch.stop()
    watch.stop()


def test_a_process_ends_while_it_watches(tmp_path):
    (tmp_path / "mine.py").write_text("from goblins import actor\n")
    script = """
        import goblins, mine
        vat = goblins.Vat()
        goblins.watch(vat, mine)
        print("watching", flush=True)
    """
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "watching\n", "")


@pytest.mark.parametrize(
    "modules", [(), ("no_such_module",), (sys,)], ids=["none", "not imported", "no file"]
)
def test_what_can_not_be_watched_is_refused(vat, modules):
    with pytest.raises(ValueError, match=r"module"):
        goblins.watch(vat, *modules)


def test_without_the_library_it_says_what_to_install(vat, watched, monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(ImportError, match=r"goblins\[watch\]"):
        goblins.watch(vat, watched.module)
