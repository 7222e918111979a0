"""For development: a module is loaded again when its file changes, and the actors of a vat get its code."""

from __future__ import annotations

import atexit
import importlib
import logging
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from goblins._goblins import Vat
from goblins._replacing import Replacement, replace_behavior

_logger = logging.getLogger("goblins")
_WATCHES: weakref.WeakSet[Watch] = weakref.WeakSet()


class Watch:
    """A watch that ``goblins.watch`` has begun. ``with`` ends it too."""

    def __init__(self, vat: Vat, modules: list[ModuleType], told: Callable[[Any], object] | None) -> None:
        self._vat = vat
        self._modules = {_file_of(module): module for module in modules}
        self._told = told
        self._stop = threading.Event()
        self._ready = threading.Event()
        name = f"goblins-watch-{vat.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        _WATCHES.add(self)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it watches."""
        return self._thread.is_alive() and not self._stop.is_set()

    def stop(self, timeout: float | None = 5.0) -> None:
        """Ends the watch, and waits until a replacement that runs is over, at most this many seconds."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        names = ", ".join(module.__name__ for module in self._modules.values())
        return f"<watch of {names} for vat {self._vat.name}{'' if self.running else ' (stopped)'}>"

    def _run(self) -> None:
        import watchfiles

        # Editors put new files in the place of old ones: the folder is what stays.
        folders = {path.parent for path in self._modules}
        changes = watchfiles.watch(
            *folders,
            watch_filter=lambda _change, path: Path(path).resolve() in self._modules,
            stop_event=self._stop,
            raise_interrupt=False,
            recursive=False,
            debounce=200,
            yield_on_timeout=True,
            rust_timeout=250,
        )
        try:
            for changed in changes:
                # The first timeout means that the watch has begun.
                self._ready.set()
                paths = {Path(path).resolve() for _, path in changed}
                if paths and not self._stop.is_set() and not self._vat.closed:
                    self._replace([module for path, module in self._modules.items() if path in paths])
                if self._vat.closed:
                    return
        except Exception:
            if not self._stop.is_set():
                _logger.exception("the watch for vat %s has ended", self._vat.name)
        finally:
            self._ready.set()

    def _replace(self, modules: list[ModuleType]) -> None:
        names = ", ".join(module.__name__ for module in modules)
        try:
            outcome: Replacement | BaseException = reload_and_replace(self._vat, modules)
        except Exception as error:
            outcome = error
            _logger.error(
                "vat %s: %s could not be loaded again; the old code goes on",
                self._vat.name,
                names,
                exc_info=error,
            )
        else:
            _logger.info("vat %s: %s loaded again: %r", self._vat.name, names, outcome)
        if self._told is not None:
            try:
                self._told(outcome)
            except Exception:
                _logger.exception("what watch(...) was to tell has failed")


def reload_and_replace(vat: Vat, modules: list[ModuleType]) -> Replacement:
    """Loads modules again, and gives the actors of a vat their code, in one turn.

    After an error the modules hold what they did before.
    """
    before = [(module, dict(vars(module))) for module in modules]

    def load() -> None:
        for module in modules:
            _reload(module)

    def put_back() -> None:
        for module, names in before:
            # Never empty: other threads may be running its functions.
            vars(module).update(names)
            for new in vars(module).keys() - names.keys():
                del vars(module)[new]

    try:
        return replace_behavior(vat, None, prepare=load, put_back=put_back)
    except BaseException:
        put_back()
        raise


def _reload(module: ModuleType) -> None:
    path = _file_of(module)
    # What can't be compiled changes nothing at all. A file may change twice within the time that bytecode is
    # compared by, so the source is what counts.
    compile(path.read_bytes(), str(path), "exec")
    cached = getattr(module, "__cached__", None)
    if cached:
        Path(cached).unlink(missing_ok=True)
    importlib.reload(module)


def _file_of(module: ModuleType) -> Path:
    file = getattr(module, "__file__", None)
    if not file or not file.endswith(".py"):
        raise ValueError(f"module {module.__name__} has no source file that could be watched")
    return Path(file).resolve()


def watch(vat: Vat, *modules: ModuleType | str, on_change: Callable[[Any], object] | None = None) -> Watch:
    """Gives the actors of a vat new code as often as a module is saved: for development.

    When the file of a module changes, the module is loaded again, and ``vat.replace_behavior()`` called, both
    in one turn of the vat. An error in either is logged (logger ``goblins``): then the module is as it was,
    and the old code goes on. It runs on a thread of its own, installs no signal handler, and ends with the
    vat or the process.

    Needs the library watchfiles: ``pip install 'goblins[watch]'``.

    Args:
        vat: the vat.
        modules: modules, or their names, that were imported before. Best such that hold constructors only:
            what stands in a module runs again.
        on_change: called on that thread after each attempt, with the ``Replacement`` or the error.

    Returns:
        The watch: ``stop()`` ends it.

    Raises:
        ImportError: watchfiles is not there.
        ValueError: a module has no source file, or was not imported.
    """
    try:
        importlib.import_module("watchfiles")
    except ImportError as error:
        raise ImportError(
            "goblins.watch needs the library watchfiles: pip install 'goblins[watch]'"
        ) from error
    if not modules:
        raise ValueError("name a module to watch")
    found = []
    for module in modules:
        if isinstance(module, str):
            if module not in sys.modules:
                raise ValueError(f"module {module} was not imported")
            module = sys.modules[module]
        _file_of(module)
        found.append(module)
    begun = Watch(vat, found, on_change)
    begun._ready.wait(10)
    return begun


@atexit.register
def _stop_all() -> None:
    # A thread that waits outside Python while the interpreter ends could not come back.
    for one in list(_WATCHES):
        one.stop(1.0)
