"""``help`` of the compiled names shows what the stub says of them, which is written there only."""

import ast
import inspect
import pydoc
import re
from pathlib import Path

import goblins
import pytest
from goblins import _goblins

STUB = ast.parse((Path(goblins.__file__).parent / "_goblins.pyi").read_text())
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def described():
    """Class, name and syntax of all that users may see: of several overloads the first."""
    seen = set()
    for node in STUB.body:
        if isinstance(node, FUNCTIONS) and not node.name.startswith("_") and node.name not in seen:
            seen.add(node.name)
            yield "", node.name, node
        if isinstance(node, ast.ClassDef) and (not node.name.startswith("_") or node.name == "_ActorBase"):
            yield node.name, "", node
            for inner in node.body:
                if isinstance(inner, FUNCTIONS) and (node.name, inner.name) not in seen:
                    seen.add((node.name, inner.name))
                    if not inner.name.startswith("_") or ast.get_docstring(inner):
                        yield node.name, inner.name, inner


DESCRIBED = list(described())
IDS = [".".join(filter(None, (class_, name))) for class_, name, _ in DESCRIBED]


def runtime(class_, name):
    if not class_:
        return getattr(_goblins, name)
    return getattr(_goblins, class_) if not name else vars(getattr(_goblins, class_))[name]


def is_property(node):
    return any(isinstance(one, ast.Name) and one.id == "property" for one in node.decorator_list)


@pytest.mark.parametrize(("class_", "name", "node"), DESCRIBED, ids=IDS)
class TestEachName:
    def test_has_its_docstring_at_run_time(self, class_, name, node):
        written = ast.get_docstring(node)
        assert written, "it has none in the stub"
        assert inspect.getdoc(runtime(class_, name)) == inspect.cleandoc(written)

    def test_says_what_it_takes_gives_and_raises(self, class_, name, node):
        text = ast.get_docstring(node)
        if isinstance(node, ast.ClassDef) or is_property(node):
            return
        arguments = node.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        named += [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
        section = text.partition("Args:")[2].partition("\n\n")[0]
        for argument in named:
            if argument.arg not in ("self", "cls"):
                assert re.search(rf"^ +([\w, ]+, )?{argument.arg}(, [\w, ]+)?:", section, re.MULTILINE), (
                    argument.arg
                )
        returns = ast.unparse(node.returns)
        assert ("Returns:" in text) == (returns != "None") or name == "become" or returns == "bool"


CAN_FAIL = {
    "send": "BehaviorError InboxFullError",
    "tell": "BehaviorError InboxFullError",
    "spawn": "NoTurnError BehaviorError",
    "on": "NoTurnError TypeError",
    "persistable_id": "TypeError PersistenceError",
    "Ref.__call__": "FarCallError NotPortableError VatClosedError PersistenceError StoreError",
    "Promise.result": "TimeoutError DeadlockError",
    "Vat.run": "NotPortableError FarCallError VatClosedError PersistenceError StoreError",
    "Vat.run_async": "NotPortableError DeadlockError VatClosedError PersistenceError StoreError",
    "Vat.spawn": "BehaviorError FarCallError VatClosedError PersistenceError",
    "Vat.drain": "VatTimeoutError DeadlockError VatClosedError PersistenceError StoreError",
    "Vat.drain_async": "VatTimeoutError DeadlockError VatClosedError PersistenceError StoreError",
    "Vat.save": "PersistenceError StoreError NotPortableError VatClosedError DeadlockError",
    "Vat.close": "DeadlockError",
    "Store.close": "StoreError DeadlockError",
    "Store.vats": "StoreError",
    "StorePart.at": "StoreError StoreCorruptError",
    "RocksStore": "StoreLockedError StoreError",
}


@pytest.mark.parametrize("name", CAN_FAIL)
def test_names_what_it_can_raise(name):
    class_, _, method = name.rpartition(".")
    found = getattr(_goblins, name, None) if not class_ else runtime(class_, method)
    section = inspect.getdoc(found).partition("Raises:")[2]
    assert [
        one for one in CAN_FAIL[name].split() if not re.search(rf"^ +.*\b{one}\b", section, re.MULTILINE)
    ] == []


def test_help_shows_all_of_it():
    text = pydoc.plain(pydoc.render_doc(goblins.send))
    assert all(part in text for part in ("Sends a message", "Args:", "Returns:", "Raises:"))
    assert "send(target, /, *args, **kwargs)" in text
    assert "Waits until the vat has nothing left to do." in pydoc.plain(pydoc.render_doc(goblins.Vat.drain))


def test_signatures_stay_where_they_were():
    assert str(inspect.signature(goblins.Vat.drain)) == "(self, /, timeout=None)"
    assert str(inspect.signature(goblins.on)).startswith("(promise, fulfilled=None")


def test_no_docstring_speaks_of_numbered_items():
    texts = [ast.get_docstring(node) or "" for _, _, node in DESCRIBED]
    assert not [text for text in texts if re.search(r"\b[A-Z]{2,3}-\d\d\b", text)]
