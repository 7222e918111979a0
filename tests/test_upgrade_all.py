"""``vat.upgrade_all()`` finishes what lazy upgrades have left (MIG-08), in batches, and may be
interrupted."""

import logging
import sys
import weakref

import pytest
from goblins import (
    Actor,
    DeadlockError,
    Map,
    MigrationError,
    Migrations,
    PersistenceEnv,
    PersistenceError,
    actor,
    methods,
    spawn,
)
from goblins._progress import bar
from support import Boom, cell, collect


class Old(Actor, label="item"):
    number: int = 0


def root_of(count):
    """A cell with so many items, and no other way to them."""
    return lambda: spawn(cell, [spawn(Old, number) for number in range(count)])


def new_item(ran, fails=()):
    steps = Migrations()

    @steps.to(1)
    def step(number):
        ran.append(number)
        if number in fails:
            raise Boom(f"no {number}")
        return {"number": number, "twice": 2 * number}

    class New(Actor, label="item", version=1, upgrade=steps):
        number: int
        twice: int

        def get(self):
            return self.number, self.twice

    return New


def env_of(*constructors):
    return PersistenceEnv("test", cell, *constructors)


def stored(place, count, env, **options):
    vat, _ = place.spawn(root_of(count), env=env_of(Old))
    return place.restart(vat, env=env, **options)


def items(root):
    return [item.get() for item in root.get()]


def test_all_that_is_left_is_upgraded_and_stored(place):
    ran = []
    new = env_of(new_item(ran))
    vat, root = stored(place, 25, new)
    root.get()[3].get()
    report = vat.upgrade_all(batch=10)
    assert report.ok
    assert report.upgraded == {"test.item": 24}
    assert sorted(ran) == list(range(25))
    # Nothing is left for the migrations: the store opens without them.
    without = type(
        "New", (Actor,), {"__annotations__": {"number": int, "twice": int}}, label="item", version=1
    )
    without = PersistenceEnv("test", cell, without)
    _, root = place.restart(vat, env=without)
    assert len(root.get()) == 25
    assert len(ran) == 25


def test_a_second_time_finds_nothing_to_do(place):
    vat, _ = stored(place, 5, env_of(new_item(ran := [])))
    vat.upgrade_all()
    report = vat.upgrade_all()
    assert report.upgraded == {}
    assert len(ran) == 5


def test_a_second_time_before_a_save_by_hand_finds_nothing_to_do_either(place):
    env = env_of(new_item(ran := []))
    vat, root = stored(place, 5, env, persist_on="manual")
    assert vat.upgrade_all(batch=2).upgraded == {"test.item": 5}
    del root
    collect()
    assert vat.upgrade_all().upgraded == {}
    assert len(ran) == 5
    vat.save()
    vat, _ = place.restart(vat, env=env, persist_on="manual")
    assert vat.upgrade_all().upgraded == {}
    assert len(ran) == 5


def test_what_was_not_saved_is_upgraded_as_it_is_in_memory(place):
    """An actor that the store knows nothing of, or something older, is no other than the rest."""
    vat, root = place.spawn(root_of(1), env=env_of(Old), persist_on="manual")
    with vat:
        root.put([*root.get(), spawn(Old, 1)])
    ran = []
    vat.replace_behavior(env_of(new_item(ran)))
    assert items(root) == [(0, 0), (1, 2)]
    assert vat.upgrade_all().upgraded == {}
    assert sorted(ran) == [0, 1]


def test_what_others_have_upgraded_meanwhile_is_not_counted(place):
    vat, root = stored(place, 10, env_of(new_item(ran := [])))

    def use(done, total):
        if done == 0:
            root.get()[0].get()
        if done == 4:
            root.get()[-1].get()

    assert vat.upgrade_all(progress=use, batch=4).upgraded == {"test.item": 8}
    assert sorted(ran) == list(range(10))


def test_two_at_a_time_count_each_actor_once(place):
    vat, _ = stored(place, 10, env_of(new_item(ran := [])))
    inner = []

    def again(done, total):
        if done == 4:
            inner.append(vat.upgrade_all(batch=3))

    outer = vat.upgrade_all(progress=again, batch=4)
    assert (outer.upgraded, inner[0].upgraded) == ({"test.item": 4}, {"test.item": 6})
    assert len(ran) == 10


def test_what_was_removed_meanwhile_is_not_counted(place):
    vat, root = stored(place, 10, env_of(new_item([])))

    def remove(done, total):
        if done == 4:
            root.put([])
            collect()
            assert place.store.collect().removed == 10

    assert vat.upgrade_all(progress=remove, batch=4).upgraded == {"test.item": 4}


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_those_that_a_step_has_upgraded_by_using_them_are_counted_once(place, batch):
    ran = []

    def step(version, fields):
        ran.append(fields["number"])
        if fields["next"] is not None:
            fields["next"].get()
        return fields

    class First(Actor, label="item"):
        number: int
        next: object = None

    class Second(First, label="item", version=1, upgrade=step):
        def get(self):
            return self.number

    def roots():
        made = []
        for number in range(6):
            made.append(spawn(First, number, made[-1] if number % 2 else None))
        return spawn(cell, made[::-1])

    vat, _ = place.spawn(roots, env=env_of(First))
    vat, _ = place.restart(vat, env=env_of(Second))
    assert vat.upgrade_all(batch=batch).upgraded == {"test.item": 6}
    assert sorted(ran) == list(range(6))


def test_actors_in_memory_are_stored_again_too(place):
    class Grown(Actor, label="item"):
        number: int = 0
        note: str = "new"

    vat, root = stored(place, 3, env_of(Grown))
    first = root.get()[0]
    assert vat.upgrade_all().upgraded == {"test.item": 3}
    assert vat.upgrade_all().upgraded == {}
    assert root.get()[0] is first

    # A class in which the field has no default any more can make them.
    class Strict(Actor, label="item"):
        number: int
        note: str

        def get(self):
            return self.note

    _, root = place.restart(vat, env=env_of(Strict))
    assert items(root) == ["new"] * 3


def test_what_a_rehydrator_makes_of_an_older_version_is_stored_and_it_runs_no_more(place):
    """LIM-15: it would run at every start."""
    ran = []

    def restore(version, **fields):
        ran.append(version)
        return spawn(box, **fields)

    @actor(label="cell", version=2, restore=restore)
    def box(bcom, value):
        return methods(get=lambda: value)

    env = PersistenceEnv("test", box)
    vat, _ = place.spawn(lambda: spawn(cell, 1))
    vat, held = place.restart(vat, env=env)
    assert vat.upgrade_all().upgraded == {"test.cell": 1}
    assert ran == [0]
    _, held = place.restart(vat, env=env)
    assert held.get() == 1
    assert ran == [0, 2]


def test_it_goes_in_batches_that_are_churns_of_their_own_and_tells_how_far_it_is(place):
    vat, _ = stored(place, 10, env_of(new_item([])))
    told = []
    vat.upgrade_all(progress=lambda done, total: told.append((done, total)), batch=4)
    assert told == [(0, 10), (4, 10), (8, 10), (10, 10)]


def test_an_interruption_keeps_the_batches_that_are_done_and_the_next_call_goes_on(place):
    ran = []
    vat, _ = stored(place, 10, env_of(new := new_item(ran)))

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vat.upgrade_all(progress=stop, batch=4)
    assert len(ran) == 4
    vat, _ = place.restart(vat, env=env_of(new))
    assert vat.upgrade_all().upgraded == {"test.item": 6}
    assert sorted(ran) == list(range(10))


def test_one_that_fails_is_named_and_logged_and_stays_as_it_is_and_all_others_are_upgraded(place, caplog):
    """MIG-04 to MIG-06 are about what may fail; a failure is never silent."""
    vat, root = stored(place, 10, env_of(new_item([], fails={3, 7})))
    with caplog.at_level(logging.ERROR, logger="goblins"):
        report = vat.upgrade_all(batch=5)
    assert report.upgraded == {"test.item": 8}
    assert not report.ok
    assert [(one.label, one.reason) for one in report.problems] == [
        ("test.item", "Boom: no 3"),
        ("test.item", "Boom: no 7"),
    ]
    assert "no 3" in str(report)
    assert "no 3" in caplog.text
    assert "no 7" in caplog.text
    bad = report.problems[0].slot
    fixed = []
    vat, root = place.restart(vat, env=env_of(new_item(fixed)))
    assert vat.upgrade_all().upgraded == {"test.item": 2}
    assert sorted(fixed) == [3, 7]
    assert bad in {problem.slot for problem in report.problems}


def test_it_keeps_no_actor_in_memory(place):
    seen = []

    class New(Actor, label="item", version=1, upgrade=lambda version, fields: fields):
        number: int = 0

        def restored(self):
            seen.append(weakref.ref(self))

    vat, _ = stored(place, 20, env_of(New))
    most = []

    def look(done, total):
        collect()
        most.append(sum(one() is not None for one in seen))

    vat.upgrade_all(progress=look, batch=2)
    assert len(seen) == 20
    assert max(most) <= 2


def test_steps_may_spawn_and_what_they_spawn_is_stored(place):
    """POR-16, MIG-08"""

    def split(version, fields):
        return {"box": spawn(cell, fields["number"])}

    class Split(Actor, label="item", version=1, upgrade=split):
        box: object

        def get(self):
            return self.box.get()

    vat, _ = stored(place, 4, env_of(Split))
    vat.upgrade_all(batch=3)
    _, root = place.restart(vat, env=env_of(Split))
    assert items(root) == [0, 1, 2, 3]


def test_pages_of_collections_are_left_alone(place):
    @actor
    def shelf(bcom, table):
        return methods(size=lambda: len(table))

    env = PersistenceEnv("test", shelf)
    vat, made = place.spawn(lambda: spawn(shelf, Map({n: n for n in range(500)})), env=env)
    vat, made = place.restart(vat, env=env)
    assert vat.upgrade_all().upgraded == {}
    assert made.size() == 500


def test_a_vat_without_a_store_has_nothing_to_upgrade(vat):
    with pytest.raises(PersistenceError, match="not persistent"):
        vat.upgrade_all()


def test_it_can_not_be_called_in_a_turn(place):
    vat, _ = place.spawn(lambda: spawn(cell))
    with pytest.raises(DeadlockError):
        vat.run(vat.upgrade_all)


@pytest.mark.parametrize("options", [{"batch": 0}, {"batch": 1.5}, {"progress": "loud"}], ids=repr)
def test_wrong_arguments_are_refused(place, options):
    vat, _ = place.spawn(lambda: spawn(cell))
    with pytest.raises((ValueError, TypeError)):
        vat.upgrade_all(**options)


def test_a_vat_that_was_closed_meanwhile_says_so(place):
    vat, _ = stored(place, 10, env_of(new_item([])))
    with pytest.raises(Exception, match="closed"):
        vat.upgrade_all(progress=lambda done, total: vat.close(), batch=2)


def test_the_bar_shows_how_far_it_is(place, monkeypatch, capsys):
    assert bar(1, 4, "x") == "x [#######.......................]  25%  1 of 4"
    assert bar(0, 0, "x").endswith("100%  0 of 0")
    vat, _ = stored(place, 4, env_of(new_item([])))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    vat.upgrade_all(progress=True, batch=2)
    shown = capsys.readouterr().err
    assert "2 of 4" in shown
    assert shown.endswith("4 of 4\n")


def test_without_a_terminal_there_is_no_bar(place, capsys):
    vat, _ = stored(place, 4, env_of(new_item([])))
    vat.upgrade_all(progress=True)
    assert capsys.readouterr().err == ""


def test_a_migration_that_gives_no_dict_is_a_problem_of_its_actor(place):
    class Bad(Actor, label="item", version=1, upgrade=lambda version, fields: None):
        number: int = 0

    vat, _ = stored(place, 2, env_of(Bad))
    report = vat.upgrade_all()
    assert len(report.problems) == 2
    assert isinstance(report.problems[0].error, MigrationError)
