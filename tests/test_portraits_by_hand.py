"""`portrait=`, `restore=`, `version=` and `upgrade=`, together and each alone (POR-12 to POR-15)."""

import itertools

import pytest
from goblins import (
    BehaviorError,
    MigrationError,
    Migrations,
    NotPortableError,
    PersistenceEnv,
    actor,
    methods,
    spawn,
    versioned,
)
from support import cell, counter


def env_of(*constructors):
    return PersistenceEnv("test", *constructors)


def temperature(**options):
    @actor(label="temperature", **options)
    def temperature(bcom, kelvin, *, unit="K"):
        def put(value):
            return bcom(temperature(bcom, value, unit=unit))

        return methods(get=lambda: (kelvin, unit), put=put)

    return temperature


class TestPortraits:
    def test_a_function_gives_the_fields_in_place_of_the_arguments(self, place):
        """POR-12"""
        seen = []

        def portrait(kelvin, unit):
            seen.append((kelvin, unit))
            return {"kelvin": kelvin + 1, "unit": unit}

        thing = temperature(portrait=portrait)
        vat, ref = place.spawn(lambda: spawn(thing, 10, unit="C"), env=env_of(thing))
        assert ref.get() == (10, "C")
        assert seen == [(10, "C")]
        vat, ref = place.restart(vat, env=env_of(thing))
        assert ref.get() == (11, "C")
        ref.put(20)
        _, ref = place.restart(vat, env=env_of(thing))
        assert ref.get() == (21, "C")

    def test_a_tuple_is_the_arguments_in_their_order(self, place):
        thing = temperature(portrait=lambda kelvin, unit: (kelvin * 2, unit.lower()))
        vat, _ = place.spawn(lambda: spawn(thing, 10), env=env_of(thing))
        _, ref = place.restart(vat, env=env_of(thing))
        assert ref.get() == (20, "k")

    def test_it_may_call_near_actors_and_what_it_changes_is_not_kept(self, place):
        """POR-05: the original can't."""
        ticks = []

        def portrait(kelvin, unit):
            return {"kelvin": [ticks[0](), ticks[0]()], "unit": unit}

        thing = temperature(portrait=portrait)
        env = env_of(thing, counter)

        def roots():
            ticks.append(spawn(counter, 5))
            return spawn(thing, 1), ticks[0]

        vat, ref, count = place.spawn(roots, env=env)
        ref.put(2)
        assert count() == 5
        _, ref, count = place.restart(vat, env=env)
        assert ref.get() == ([5, 6], "K")
        assert count() == 6

    def test_an_error_in_it_fails_the_turn(self, place):
        thing = temperature(portrait=lambda kelvin, unit: {"kelvin": 10 / kelvin})
        vat, ref = place.spawn(lambda: spawn(thing, 10), env=env_of(thing))
        with pytest.raises(ZeroDivisionError):
            ref.put(0)
        assert ref.get() == (10, "K")
        _, ref = place.restart(vat, env=env_of(thing))
        assert ref.get() == (1, "K")

    @pytest.mark.parametrize("given", [None, 42, {1: 2}, (1, 2, 3)], ids=repr)
    def test_anything_else_is_an_error(self, place, given):
        thing = temperature(portrait=lambda kelvin, unit: given)
        with pytest.raises(MigrationError, match="portrait"):
            place.spawn(lambda: spawn(thing, 10), env=env_of(thing))

    def test_what_it_gives_must_be_portable(self, place):
        thing = temperature(portrait=lambda kelvin, unit: {"kelvin": [object()]})
        with pytest.raises(NotPortableError) as caught:
            place.spawn(lambda: spawn(thing, 10), env=env_of(thing))
        assert caught.value.path == "args.kelvin[0]"


class TestVersions:
    def test_a_portrait_may_name_its_version(self, place):
        """POR-02, POR-13"""
        thing = temperature(portrait=lambda kelvin, unit: versioned(3, kelvin, unit))
        vat, _ = place.spawn(lambda: spawn(thing, 10, unit="C"), env=env_of(thing))
        with pytest.raises(MigrationError, match="version 3"):
            place.restart(vat, env=env_of(temperature()))
        _, ref = place.restart(env=env_of(temperature(version=3)))
        assert ref.get() == (10, "C")

    def test_with_fields_by_name(self, place):
        thing = temperature(
            version=3, portrait=lambda kelvin, unit: versioned(3, {"unit": unit, "kelvin": 7})
        )
        vat, _ = place.spawn(lambda: spawn(thing, 10, unit="C"), env=env_of(thing))
        _, ref = place.restart(vat, env=env_of(temperature(version=3)))
        assert ref.get() == (7, "C")

    def test_two_versions_that_differ_are_an_error(self, place):
        """POR-13"""
        thing = temperature(version=2, portrait=lambda kelvin, unit: versioned(3, kelvin, unit))
        with pytest.raises(MigrationError, match=r"version 3.*2"):
            place.spawn(lambda: spawn(thing, 10), env=env_of(thing))


class TestRehydrators:
    def test_one_gets_version_and_fields_and_spawns_the_actor(self, place):
        """POR-14"""
        seen = []

        def restore(version, kelvin, unit):
            seen.append((version, kelvin, unit))
            return spawn(thing, kelvin + 1, unit=unit)

        thing = temperature(version="v", restore=restore)
        vat, ref = place.spawn(lambda: spawn(thing, 10), env=env_of(thing))
        vat, ref = place.restart(vat, env=env_of(thing))
        assert seen == []
        assert ref.get() == (11, "K")
        assert seen == [("v", 10, "K")]
        ref.put(50)
        assert ref.get() == (50, "K")
        _, ref = place.restart(vat, env=env_of(thing))
        assert ref.get() == (51, "K")

    def test_the_actor_keeps_its_identity(self, place):
        def restore(version, **fields):
            return spawn(thing, **fields)

        thing = temperature(restore=restore)
        env = env_of(thing, cell)
        vat, _ = place.spawn(lambda: spawn(cell, [ref := spawn(thing, 1), ref]), env=env)
        vat, box = place.restart(vat, env=env)
        one, two = box.get()
        assert one is two
        one.put(2)
        assert two.get() == (2, "K")
        _, box = place.restart(vat, env=env)
        assert [ref.get() for ref in box.get()] == [(2, "K")] * 2

    def test_one_in_the_environment_works_too_and_that_of_the_actor_wins(self, place):
        """ENV-02, ENV-07"""
        plain = temperature()
        env = PersistenceEnv(
            {"t": (plain, lambda version, kelvin, unit: spawn(plain, kelvin + 5, unit=unit))}
        )
        vat, ref = place.spawn(lambda: spawn(plain, 1), env=env)
        vat, ref = place.restart(vat, env=env)
        assert ref.get() == (6, "K")
        own = temperature(restore=lambda version, kelvin, unit: spawn(own, kelvin + 1, unit=unit))
        env = PersistenceEnv({"t": (own, lambda *_, **__: 1 / 0)})
        _, ref = place.restart(vat, env=env | PersistenceEnv("more", cell))
        assert ref.get() == (2, "K")

    def test_after_an_upgrade_it_gets_the_new_version(self, place):
        """POR-15"""
        seen, migrations = [], Migrations()

        @migrations.to(1)
        def double(kelvin, unit):
            return {"kelvin": kelvin * 2, "unit": unit}

        def restore(version, **fields):
            seen.append((version, fields))
            return spawn(new, **fields)

        old, new = temperature(), temperature(version=1, upgrade=migrations, restore=restore)
        vat, _ = place.spawn(lambda: spawn(old, 10), env=env_of(old))
        vat, ref = place.restart(vat, env=env_of(new))
        assert ref.get() == (20, "K")
        assert seen == [(1, {"kelvin": 20, "unit": "K"})]
        _, ref = place.restart(vat, env=env_of(new))
        assert ref.get() == (20, "K")
        assert len(seen) == 2

    def test_without_an_upgrade_it_gets_every_version_itself_and_the_result_is_stored(self, place):
        """LIM-15"""
        seen = []

        def restore(version, **fields):
            seen.append(version)
            return spawn(new, **fields)

        old, new = temperature(version=1), temperature(version=2, restore=restore)
        vat, _ = place.spawn(lambda: spawn(old, 10), env=env_of(old))
        vat, ref = place.restart(vat, env=env_of(new))
        assert ref.get() == (10, "K")
        _, ref = place.restart(vat, env=env_of(new))
        assert ref.get() == (10, "K")
        assert seen == [1, 2]

    @pytest.mark.parametrize(
        "restore",
        [lambda version, **_: None, lambda version, **_: 42, lambda version, kelvin, unit: kelvin],
        ids=["nothing", "number", "old actor"],
    )
    def test_one_that_spawns_nothing_is_an_error(self, place, restore):
        thing = temperature(restore=restore)
        env = env_of(thing, cell)
        vat, _ = place.spawn(lambda: spawn(thing, spawn(cell)), env=env)
        _, ref = place.restart(vat, env=env)
        with pytest.raises(MigrationError, match="must spawn an actor"):
            ref.get()

    def test_what_is_no_function_is_an_error_at_once(self):
        with pytest.raises(BehaviorError, match="restore"):
            temperature(restore=42)
        with pytest.raises(BehaviorError, match="portrait"):
            temperature(portrait="text")
        with pytest.raises(BehaviorError, match="rehydrator"):
            PersistenceEnv({"t": (temperature(), 42)})


OPTIONS = ("portrait", "version", "upgrade", "restore")
COMBINATIONS = [frozenset(chosen) for count in range(5) for chosen in itertools.combinations(OPTIONS, count)]


@pytest.mark.parametrize("chosen", COMBINATIONS, ids=lambda chosen: "+".join(sorted(chosen)) or "none")
def test_the_options_work_together_and_each_alone(place, chosen):
    """POR-12 to POR-15: what each does is seen in the value."""
    given = {
        "portrait": lambda value: {"value": value + 1000},
        "version": 1,
        "upgrade": lambda version, fields: {"value": fields["value"] * 10},
        "restore": lambda version, value: spawn(new, value + 100),
    }

    @actor(label="thing")
    def old(bcom, value):
        return lambda: value

    @actor(label="thing", **{option: given[option] for option in chosen})
    def new(bcom, value):
        return methods(get=lambda: value, put=lambda value: bcom(new(bcom, value)))

    vat, _ = place.spawn(lambda: spawn(old, 1), env=env_of(old))
    if chosen & {"version", "upgrade", "restore"} == {"version"}:
        with pytest.raises(MigrationError, match="version 0"):
            place.restart(vat, env=env_of(new))
        return
    vat, ref = place.restart(vat, env=env_of(new))
    upgraded = 10 if {"version", "upgrade"} <= chosen else 1
    restored = 100 if "restore" in chosen else 0
    pictured = 1000 if "portrait" in chosen else 0
    assert ref.get() == upgraded + restored
    if "version" in chosen:
        # It was stored again, with the version of today: no step runs twice.
        vat, ref = place.restart(vat, env=env_of(new))
        assert ref.get() == upgraded + restored + pictured + restored
    ref.put(5)
    _, ref = place.restart(vat, env=env_of(new))
    assert ref.get() == 5 + pictured + restored
