"""Pages of Map, List and Set as none were ever written, in a store whose checksums are right."""

import random
from types import FunctionType

import pytest
from goblins import (
    GoblinsError,
    MemoryStore,
    MigrationError,
    PersistenceEnv,
    Ref,
    StoreCorruptError,
    _goblins,
    _pages,
    spawn,
    spawn_persistent_vat,
)
from portable_keys import RECORDS, Place
from support import Box

BOX_ENV = PersistenceEnv("damaged", Box, records=RECORDS)


class Damaged:
    """A store whose collections have many pages, and in which pages are changed."""

    def __init__(self):
        self.store = MemoryStore()
        self.vat = None
        self.open()
        table, items, members = self.parts
        with self.vat:
            table.update({f"key {number}": number for number in range(300)})
            items.extend(range(300))
            members.update(range(300))
        self.open()

    def open(self):
        if self.vat:
            self.vat.close()
        self.vat, self.box = spawn_persistent_vat(BOX_ENV, lambda: spawn(Box), self.store)
        self.parts = self.box.parts()

    def change(self, page, parts):
        """Gives a page other parts; it is a page, or a function that gives one in a turn."""
        with self.vat:
            page = page() if callable(page) else page
            _goblins._page_become(page, *replaced(_goblins._page(page), parts))
        self.open()

    def close(self):
        self.vat.close()
        self.store.close()


def replaced(state, parts):
    """A state of a page with other parts, by their places."""
    state = list(state)
    for place, value in parts.items():
        state[place] = value(state[place]) if isinstance(value, FunctionType) else value
    return state[1:]


@pytest.fixture
def damaged():
    it = Damaged()
    yield it
    it.close()


def use_all(parts):
    """All that can be done with collections: the errors of each use."""
    table, items, members = parts
    uses = [
        *(lambda: len(table), lambda: table["key 7"], lambda: list(table.items())),
        *(lambda: list(reversed(table)), lambda: table.popitem(), lambda: table.__setitem__("new", 1)),
        *(lambda: table.pop("key 8", None), lambda: table.__setitem__("key 9", "other")),
        *(lambda: table[1, 2], lambda: table[Place("a")], lambda: repr(table), lambda: table == {}),
        *(lambda: items[7], lambda: len(items), lambda: list(items), lambda: list(reversed(items))),
        *(lambda: items[5:9], lambda: items.append(1), lambda: items.pop(), lambda: items.insert(3, 3)),
        *(lambda: items.__delitem__(200), lambda: items.extend([1, 2]), lambda: items.index(299)),
        *(lambda: items.count(5), lambda: repr(items), lambda: items < [5], lambda: 7 in members),
        *(lambda: list(members), lambda: members.add("x"), lambda: members.discard(8)),
        *(lambda: members.pop(), lambda: members & {1}, lambda: members == {1}),
        *(lambda: members.clear(), lambda: table.clear(), lambda: items.clear()),
    ]
    errors = []
    for use in uses:
        try:
            use()
        except (GoblinsError, KeyError, IndexError, ValueError) as error:
            errors.append(error)
    return errors


TABLE, HASHES, ENTRIES = 0, 3, 5


def leaf(damaged, which, tree, levels):
    """The first leaf of a tree of a collection."""

    def find():
        root = _goblins._page(damaged.parts[which]._root)
        page = root[tree]
        for _ in range(root[levels]):
            page = _goblins._page(page)[2][0]
        return page

    return find


ROOTS = [
    {1: -1},
    {1: 2**63},
    {1: "many"},
    {1: True},
    {1: None},
    {1: 2**40, 2: 2**41},
    {2: -1},
    {2: 0},
    {2: 5},
    {2: 2**60},
    {2: "x"},
    {4: 2**40},
    {4: 64},
    {4: 2},
    {4: -1},
    {4: 0},
    {4: "x"},
    {6: 2**40},
    {6: 64},
    {6: -1},
    {6: 0},
    {3: None},
    {5: []},
    {7: 5},
    {7: [1]},
    {7: b"x"},
]
NODES = [
    {1: []},
    {1: [0, 0]},
    {1: ["a"]},
    {1: lambda it: it[::-1]},
    {1: lambda it: [-1, *it[1:]]},
    {1: lambda it: [*it[:-1], 2**70]},
    {1: None},
    {2: []},
    {2: lambda it: [1] * len(it)},
    {2: lambda it: it[:1] * len(it)},
    {2: "ab"},
    {1: lambda it: it[1:]},
    {2: None},
    {1: [], 2: []},
]
LEAVES = [
    {1: "x"},
    {2: lambda it: it[1:]},
    {2: lambda it: it[::-1]},
    {2: lambda it: [0] * len(it)},
    {2: lambda it: ["a"] * len(it)},
    {2: None},
    {2: lambda it: [one + 2**30 for one in it]},
    {3: []},
    {3: lambda it: it[1:]},
    {3: lambda it: [[1]] * len(it)},
    {3: None},
    {3: {}},
    {4: []},
    {4: None},
    {4: {}},
    {2: [], 3: [], 4: []},
]
PAIRS = [
    {1: b"x"},
    {1: None},
    {1: "x" * 14},
    {1: lambda it: it[:-1]},
    {1: lambda it: it + it},
    {1: lambda it: b"".join(it[at : at + 8] + b"\xff" * 6 for at in range(0, len(it), 14))},
]
LIST_ROOTS = [
    {1: -1},
    {1: 2**62},
    {1: 500},
    {1: "x"},
    {1: None},
    {2: None},
    {3: 2**40},
    {3: 64},
    {3: -1},
    {3: 0},
    {3: "x"},
    {3: 2},
]
ITEMS = [{1: "x"}, {2: None}, {2: ()}, {2: []}, {2: lambda it: it[1:]}, {2: "abc"}]


@pytest.mark.parametrize(
    ("which", "tree", "levels", "changes"),
    [
        pytest.param(0, None, None, ROOTS, id="the root of a Map"),
        pytest.param(2, None, None, ROOTS, id="the root of a Set"),
        pytest.param(0, 3, 4, PAIRS, id="hashes"),
        pytest.param(0, 5, 6, LEAVES, id="entries"),
        pytest.param(1, None, None, LIST_ROOTS, id="the root of a List"),
        pytest.param(1, 2, 3, ITEMS, id="items"),
        pytest.param(0, 3, None, NODES, id="a node of hashes"),
        pytest.param(0, 5, None, NODES, id="a node of entries"),
        pytest.param(1, 2, None, NODES, id="a node of items"),
    ],
)
def test_damage_is_told_by_its_slot_and_nothing_else_comes_of_it(which, tree, levels, changes):
    for change in changes:
        damaged = Damaged()
        find = page_of(damaged, which, tree, levels)
        damaged.change(find, change)
        errors = use_all(damaged.parts)
        typed = [error for error in errors if isinstance(error, GoblinsError)]
        assert all(type(error) is StoreCorruptError for error in typed), (change, typed)
        assert all("slot" in str(error) and "vat main" in str(error) for error in typed), (change, typed)
        damaged.close()


def page_of(damaged, which, tree, levels):
    if tree is None:
        return lambda: damaged.parts[which]._root
    if levels is None:
        return lambda: _goblins._page(damaged.parts[which]._root)[tree]
    return leaf(damaged, which, tree, levels)


@pytest.mark.parametrize(("which", "tree", "levels"), [(0, 3, 4), (0, 5, 6), (1, 2, 3), (2, 5, 6)])
def test_a_page_that_leads_to_itself_is_damage(damaged, which, tree, levels):
    with damaged.vat:
        root = damaged.parts[which]._root
        state = _goblins._page(root)
        top = state[tree]
        _goblins._page_become(top, [0, 1], [top, _goblins._page(top)[2][0]])
        _goblins._page_become(root, *replaced(state, {levels: 64}))
    damaged.open()
    errors = use_all(damaged.parts)
    assert any(type(error) is StoreCorruptError for error in errors)
    assert {type(error) for error in errors} <= {StoreCorruptError, KeyError}


def test_pages_that_are_shared_are_no_way_to_endless_work(damaged):
    """Two pages on each level that lead to the same two below: more ways than anybody could go."""
    with damaged.vat:
        for which, tree, levels, node in ((0, 5, 6, False), (1, 2, 3, True)):
            root = damaged.parts[which]._root
            state = _goblins._page(root)
            below = _goblins._page(state[tree])[2][:2]
            for _ in range(40):
                starts = [0, 64] if node else [0, 1]
                below = [_goblins._page_spawn(_pages.tree_node, starts, below) for _ in range(2)]
            count = {1: 2**45} if which == 1 else {}
            _goblins._page_become(root, *replaced(state, {tree: below[0], levels: 40, **count}))
    damaged.open()
    table, items, _ = damaged.parts
    for use in (
        lambda: list(table),
        lambda: list(items),
        lambda: items.index("no"),
        lambda: list(reversed(table)),
    ):
        with pytest.raises(StoreCorruptError, match=r"slot \d+ of vat main"):
            use()


def test_a_collection_that_begins_with_another_actor_is_damage(damaged):
    with damaged.vat:
        table, items, members = damaged.parts
        table_page, entries = _goblins._page(table._root), _goblins._page(items._root)
        _goblins._page_become(items._root, *replaced(entries, {2: damaged.box}))
        _goblins._page_become(members._root, *replaced(table_page, {5: items._root, 3: damaged.box}))
    damaged.open()
    _, items, members = damaged.parts
    for use in (lambda: items[0], lambda: list(items), lambda: 5 in members, lambda: list(members)):
        with pytest.raises(StoreCorruptError, match="another kind of page"):
            use()


def test_random_damage_is_told_or_is_right():
    """Parts of pages are exchanged with others, in any way."""
    chance = random.Random(7)
    for _ in range(40):
        damaged = Damaged()
        with damaged.vat:
            pages = all_pages(damaged.parts)
            values = (
                [part for page in pages for part in _goblins._page(page)[1:]]
                + pages
                + [None, -1, 2**63, "x", b""]
            )
            for _ in range(chance.randint(1, 3)):
                page = chance.choice(pages)
                state = list(_goblins._page(page)[1:])
                state[chance.randrange(len(state))] = chance.choice(values)
                _goblins._page_become(page, *state)
        damaged.open()
        for error in use_all(damaged.parts):
            assert isinstance(error, StoreCorruptError | MigrationError | KeyError | IndexError | ValueError)
        damaged.close()


def all_pages(parts):
    found, todo = [], [it._root for it in parts]
    while todo:
        page = todo.pop()
        found.append(page)
        for part in _goblins._page(page)[1:]:
            todo.extend(one for one in (part if isinstance(part, list) else [part]) if type(one) is Ref)
    return found
