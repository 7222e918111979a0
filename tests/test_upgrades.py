"""Actors and roots of older versions are made those of today (MIG, PV-08 to PV-10)."""

import pytest
from goblins import (
    Actor,
    BehaviorError,
    MigrationError,
    Migrations,
    PersistenceEnv,
    Ref,
    actor,
    methods,
    send,
    spawn,
    spawn_named,
)
from support import Boom, cell, counter, must_not_run


class Account1(Actor, label="account", version=1):
    owner: str
    balance: float = 0.0


def chain(*numbers):
    """Steps that write down that they ran."""
    migrations, ran = Migrations(), []
    for number in numbers:

        @migrations.to(number)
        def step(number=number, **fields):
            ran.append(number)
            return {**fields, "trail": [*fields.get("trail", []), number]}

    return migrations, ran


def holder(version, upgrade=None):
    class Holder(Actor, label="holder", version=version, upgrade=upgrade):
        value: int = 0
        trail: list = []

        def get(self):
            return self.value, self.trail

        def put(self, value):
            self.value = value

    return Holder


def env_of(*constructors):
    return PersistenceEnv("test", *constructors)


class TestActors:
    def test_a_step_gets_the_stored_fields_and_gives_those_of_today(self, place):
        """MIG-03, POR-15"""
        migrations = Migrations()

        @migrations.to(2)
        def to_cents(owner, balance):
            return {"owner": owner, "cents": round(balance * 100)}

        class Account(Actor, version=2, upgrade=migrations, label="account"):
            owner: str
            cents: int = 0

            def state(self):
                return self.owner, self.cents

        vat, _ = place.spawn(lambda: spawn(Account1, "Ada", 1.25), env=env_of(Account1))
        vat, account = place.restart(vat, env=env_of(Account))
        assert account.state() == ("Ada", 125)
        _, account = place.restart(vat, env=env_of(Account))
        assert account.state() == ("Ada", 125)

    def test_only_the_steps_that_are_needed_run_in_the_order_of_their_numbers(self, place):
        """MIG-02, POR-17"""
        vat, _ = place.spawn(lambda: spawn(old, 5), env=env_of(old := holder(2)))
        migrations, ran = chain(4, 3, 2, 5)
        vat, ref = place.restart(vat, env=env_of(new := holder(5, migrations)))
        assert ran == []
        assert ref.get() == (5, [3, 4, 5])
        assert ran == [3, 4, 5]
        _, ref = place.restart(vat, env=env_of(new))
        assert ref.get() == (5, [3, 4, 5])
        assert ran == [3, 4, 5]

    def test_an_actor_is_upgraded_when_it_is_first_used_and_stored_with_that_churn(self, place):
        """LIM-15, PV-24"""
        old, ran = holder(0), []

        def upgrade(version, fields):
            ran.append((version, fields["value"]))
            return fields

        new = holder(1, upgrade)
        roots = lambda: tuple(spawn(old, n) for n in range(3))  # noqa: E731
        vat, *_ = place.spawn(roots, env=env_of(old))
        vat, one, *_ = place.restart(vat, env=env_of(new))
        assert ran == []
        one.get()
        assert ran == [(0, 0)]
        vat, *refs = place.restart(vat, env=env_of(new))
        assert [ref.get()[0] for ref in refs] == [0, 1, 2]
        assert ran == [(0, 0), (0, 1), (0, 2)]
        _, *refs = place.restart(vat, env=env_of(new))
        assert [ref.get()[0] for ref in refs] == [0, 1, 2]
        assert len(ran) == 3

    def test_a_turn_that_fails_upgrades_nothing_and_the_next_one_tries_again(self, place):
        old, ran = holder(0), []

        def upgrade(version, fields):
            ran.append(version)
            return fields

        vat, _ = place.spawn(lambda: spawn(old, 7), env=env_of(old))
        vat, ref = place.restart(vat, env=env_of(new := holder(1, upgrade)))
        with pytest.raises(Boom), vat:
            ref.get()
            raise Boom
        assert ref.get() == (7, [])
        assert ran == [0, 0]
        _, ref = place.restart(vat, env=env_of(new))
        assert ref.get() == (7, [])
        assert ran == [0, 0]

    def test_steps_may_spawn_actors(self, place):
        """POR-16, MIG-08"""
        migrations = Migrations()

        @migrations.to(1)
        def wrap(value, trail):
            return {"box": spawn(cell, (value, trail))}

        @actor(label="holder", version=1, upgrade=migrations)
        def new(bcom, box):
            return methods(get=lambda: box.get())

        old = holder(0)
        vat, _ = place.spawn(lambda: spawn(old, 7), env=env_of(old))
        vat, ref = place.restart(vat, env=env_of(new, cell))
        assert send(ref.get).result(30) == (7, [])
        _, ref = place.restart(vat, env=env_of(new, cell))
        assert ref.get() == (7, [])

    def test_a_function_gets_version_and_fields(self, place):
        """versions may be any plain value then (POR-04)"""
        seen = []

        def upgrade(version, fields):
            seen.append((version, fields))
            return {"value": fields["value"] + 1}

        vat, _ = place.spawn(lambda: spawn(old, 1), env=env_of(old := holder("spring")))
        _, ref = place.restart(vat, env=env_of(holder(("autumn", 2), upgrade)))
        assert ref.get() == (2, [])
        assert seen == [("spring", {"value": 1, "trail": []})]

    def test_an_error_in_a_step_fails_the_turn_and_leaves_the_actor_as_it_was(self, place):
        migrations = Migrations()

        @migrations.to(1)
        def bad(**fields):
            raise Boom("in a step")

        vat, _ = place.spawn(lambda: spawn(old, 3), env=env_of(old := holder(0)))
        vat, ref = place.restart(vat, env=env_of(holder(1, migrations)))
        with pytest.raises(Boom, match="in a step"):
            ref.get()
        _, ref = place.restart(vat, env=env_of(holder(0)))
        assert ref.get() == (3, [])

    @pytest.mark.parametrize("made", [None, [1], {1: 2}], ids=repr)
    def test_a_step_must_return_fields(self, place, made):
        vat, _ = place.spawn(lambda: spawn(old, 3), env=env_of(old := holder(0)))
        _, ref = place.restart(vat, env=env_of(holder(1, lambda version, fields: made)))
        with pytest.raises(MigrationError, match="dict of the fields"):
            ref.get()

    def test_fields_that_the_class_does_not_have_are_an_error(self, place):
        vat, _ = place.spawn(lambda: spawn(old, 3), env=env_of(old := holder(0)))
        _, ref = place.restart(vat, env=env_of(holder(1, lambda version, fields: {**fields, "lost": 1})))
        with pytest.raises(MigrationError, match="lost"):
            ref.get()


class TestBadChains:
    """They are found when the environment is made (MIG-06, MIG-07)."""

    def test_a_step_given_twice(self):
        migrations, _ = chain(1)
        with pytest.raises(MigrationError, match="two steps to version 1"):
            migrations.to(1)

    def test_a_gap(self):
        migrations, _ = chain(1, 2, 4)
        with pytest.raises(MigrationError, match="no step to version 3"):
            env_of(holder(4, migrations))

    @pytest.mark.parametrize("version", [1, 3, "two", True])
    def test_one_that_ends_at_another_version(self, version):
        migrations, _ = chain(1, 2)
        with pytest.raises(MigrationError, match="end at version 2"):
            env_of(holder(version, migrations))

    def test_one_without_steps(self):
        with pytest.raises(MigrationError, match="no step"):
            env_of(holder(1, Migrations()))

    @pytest.mark.parametrize("version", ["1", 1.0, None, True])
    def test_a_version_that_is_no_number(self, version):
        with pytest.raises(TypeError):
            Migrations().to(version)


class TestOpening:
    """What can't be made of what is stored is found when the vat is opened, and the store stays as it was."""

    def refused(self, place, vat, old, new, text):
        with pytest.raises(MigrationError, match=text) as caught:
            place.restart(vat, env=env_of(new))
        assert "test.holder" in str(caught.value)
        assert "slot" in str(caught.value)
        _, ref = place.restart(env=env_of(old))
        assert ref.get() == (3, [])

    def test_another_version_without_an_upgrade(self, place):
        vat, _ = place.spawn(lambda: spawn(old, 3), env=env_of(old := holder(1)))
        self.refused(place, vat, old, holder(2), "version 1.*version 2.*no upgrade")

    def test_data_that_are_too_old(self, place):
        """MIG-05"""
        vat, _ = place.spawn(lambda: spawn(old, 3), env=env_of(old := holder(1)))
        migrations, _ = chain(3, 4)
        self.refused(place, vat, old, holder(4, migrations), "version 1")

    def test_data_that_are_too_new(self, place):
        """PV-10"""
        vat, _ = place.spawn(lambda: spawn(old, 3), env=env_of(old := holder(9)))
        migrations, _ = chain(1, 2)
        self.refused(place, vat, old, holder(2, migrations), "version 9")

    def test_data_whose_version_is_no_number(self, place):
        vat, _ = place.spawn(lambda: spawn(old, 3), env=env_of(old := holder("one")))
        migrations, _ = chain(1, 2)
        self.refused(place, vat, old, holder(2, migrations), "'one'")

    def test_what_nobody_has_any_more_is_no_harm(self, place):
        old = holder(1)
        vat, ref = place.spawn(lambda: spawn(old, 3), env=env_of(old))
        upgraded = holder(2, lambda version, fields: fields)
        vat, ref = place.restart(vat, env=env_of(upgraded))
        assert ref.get() == (3, [])
        _, ref = place.restart(vat, env=env_of(holder(2)))
        assert ref.get() == (3, [])


def _plain(bcom, value):
    return lambda: value


class TestRoots:
    def test_a_step_gets_the_roots_and_gives_new_ones(self, place):
        """PV-08, MIG-08"""
        migrations = Migrations()

        @migrations.to(1)
        def add_a_box(ticks):
            return ticks, spawn(cell, ticks())

        @migrations.to(2)
        def turn_round(ticks, box):
            return box, ticks

        vat, ticks = place.spawn(lambda: spawn(counter, 5))
        assert ticks() == 5
        vat, box, ticks = place.restart(vat, version=2, upgrade=migrations)
        assert (box.get(), ticks()) == (6, 7)
        _, box, ticks = place.restart(vat, version=2)
        assert (box.get(), ticks()) == (6, 8)

    def test_a_function_gets_the_version_and_the_roots(self, place):
        seen = []

        def upgrade(version, *roots):
            seen.append((version, roots))
            return roots[0]

        vat, *_ = place.spawn(lambda: (spawn(counter), spawn(cell)), version="old")
        _, ticks = place.restart(vat, version="new", upgrade=upgrade)
        assert ticks() == 0
        ((version, roots),) = seen
        assert version == "old"
        assert roots[0] is ticks
        assert isinstance(roots[1], Ref)

    def test_the_same_version_needs_no_upgrade(self, place):
        vat, _ = place.spawn(lambda: spawn(counter), version=3)
        _, ticks = place.restart(vat, version=3, upgrade=lambda *_: 1 / 0)
        assert ticks() == 0

    @pytest.mark.parametrize(
        "upgrade",
        [
            lambda version, ticks: 1 / 0,
            lambda version, ticks: (ticks(), 1 / 0),
            lambda version, ticks: None,
            lambda version, ticks: (),
            lambda version, ticks: spawn(cell, object()),
        ],
        ids=["raises", "raises late", "nothing", "no root", "not portable"],
    )
    def test_an_upgrade_that_fails_leaves_the_old_version(self, place, upgrade):
        """PV-21: no error is swallowed."""
        vat, ticks = place.spawn(lambda: spawn(counter, 5))
        with pytest.raises((ZeroDivisionError, TypeError)):
            place.restart(vat, version=1, upgrade=upgrade)
        _, ticks = place.restart()
        assert ticks() == 5

    def test_a_step_that_fails_in_the_middle_leaves_the_old_version(self, place):
        migrations = Migrations()

        @migrations.to(1)
        def first(ticks):
            return ticks, spawn(cell, ticks())

        @migrations.to(2)
        def second(ticks, box):
            raise Boom

        vat, ticks = place.spawn(lambda: spawn(counter, 5))
        with pytest.raises(Boom):
            place.restart(vat, version=2, upgrade=migrations)
        _, ticks = place.restart()
        assert ticks() == 5

    def test_another_version_without_an_upgrade_is_an_error(self, place):
        """PV-10"""
        vat, _ = place.spawn(lambda: spawn(counter))
        with pytest.raises(MigrationError, match="version 0.*4"):
            place.restart(vat, version=4)
        with pytest.raises(MigrationError, match="end at version 1"):
            place.restart(version=4, upgrade=chain(1)[0])
        with pytest.raises(TypeError):
            place.restart(version=4, upgrade="soon")
        _, ticks = place.restart()
        assert ticks() == 0

    def test_a_gap_in_the_migrations_is_found_when_the_vat_is_founded_or_opened(self, place):
        """MIG-06"""
        migrations = Migrations()
        migrations.to(1)(lambda ticks: ticks)
        migrations.to(3)(lambda ticks: ticks)
        with pytest.raises(MigrationError, match="no step to version 2"):
            place.spawn(must_not_run, version=3, upgrade=migrations)
        vat, _ = place.spawn(lambda: spawn(counter), version=3)
        with pytest.raises(MigrationError, match="no step to version 2"):
            place.restart(vat, version=3, upgrade=migrations)
        _, ticks = place.restart(version=3)
        assert ticks() == 0

    def test_an_upgrade_that_returns_a_version_and_a_list_is_told_what_to_return(self, place):
        """PV-09, PV-10"""
        vat, _ = place.spawn(lambda: spawn(counter, 5))
        with pytest.raises(
            BehaviorError, match=r"upgrade of the roots returned a version and a list.*version="
        ):
            place.restart(vat, version=1, upgrade=lambda version, ticks: (1, [ticks]))
        with pytest.raises(BehaviorError, match="the upgrade of the roots returned a value of type int"):
            place.restart(version=1, upgrade=lambda version, ticks: (1, ticks))
        _, ticks = place.restart()
        assert ticks() == 5

    @pytest.mark.parametrize(
        ("stored", "wanted"),
        [(1, True), (1, 1.0), (0, False), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ((1, 2.0), (1.0, 2))],
        ids=repr,
    )
    def test_versions_are_compared_as_values(self, place, stored, wanted):
        """PV-08"""
        old, new = (actor(label="old", version=version)(_plain) for version in (stored, wanted))
        env = PersistenceEnv("test", old)
        vat, _ = place.spawn(lambda: spawn(old, 5), env=env, version=stored)
        _, ref = place.restart(vat, env=PersistenceEnv("test", new), version=wanted)
        assert ref() == 5

    def test_roots_that_are_too_new_are_an_error(self, place):
        vat, _ = place.spawn(lambda: spawn(counter), version=7)
        with pytest.raises(MigrationError, match="newer than 2"):
            place.restart(vat, version=2, upgrade=chain(1, 2)[0])


@pytest.mark.parametrize("kind", ["class", "function"])
class TestWhatAnUpgradeReturns:
    """A message names the actor, the versions, the field, and those that are known."""

    def kinds(self, kind, made):
        if kind == "class":

            class Old(Actor, label="it"):
                owner: str

            class New(Actor, label="it", version=2, upgrade=lambda version, fields: made(fields)):
                owner: str
                cents: int

                def get(self):
                    return self.owner, self.cents

            return Old, New
        old = actor(label="it")(lambda bcom, owner: methods(get=lambda: owner))
        new = actor(label="it", version=2, upgrade=lambda version, fields: made(fields))(
            lambda bcom, owner, cents: methods(get=lambda: (owner, cents))
        )
        return old, new

    def error(self, place, kind, made):
        old, new = self.kinds(kind, made)
        vat, _ = place.spawn(lambda: spawn_named("Ada", old, "Ada"), env=env_of(old))
        vat, root = place.restart(vat, env=env_of(new))
        with pytest.raises(MigrationError) as caught:
            root.get()
        vat.close()
        return str(caught.value)

    WHOSE = 'the upgrade of slot 0 of vat main (label "test.it", named "Ada") from version 0 to 2 gave'

    def test_with_a_field_that_is_not_known(self, memory, kind):
        text = self.error(memory, kind, lambda fields: {**fields, "cents": 1, "pence": 2})
        maker = "class" if kind == "class" else "constructor"
        assert text == (
            f'{self.WHOSE} a field "pence" that its {maker} does not know: let it return only those that it '
            "knows (owner, cents)"
        )

    def test_without_a_field_that_is_needed(self, memory, kind):
        text = self.error(memory, kind, lambda fields: fields)
        maker, default = ("class", "field") if kind == "class" else ("constructor", "parameter")
        assert text == (
            f'{self.WHOSE} no field "cents", which its {maker} needs: let it return that too, or give the '
            f"{default} a default"
        )
