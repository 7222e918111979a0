"""`cell`, `read_only`, `write_only`: actors of the library that every environment knows (LIB-01, ENV-09)."""

import pytest
from goblins import (
    AccessDeniedError,
    Actor,
    DuplicateLabelError,
    FarCallError,
    NotPortableError,
    PersistenceEnv,
    cell,
    cell_env,
    read_only,
    send,
    spawn,
    tell,
    write_only,
)
from support import Boom, counter, failing_turn

EMPTY = PersistenceEnv({})


class TestACell:
    def test_without_an_argument_it_gives_its_value(self, vat):
        assert vat.spawn(cell)() is None
        assert vat.spawn(cell, 5)() == 5

    def test_with_one_it_takes_that_and_returns_nothing(self, vat):
        box = vat.spawn(cell, 1)
        assert box(2) is None
        assert box() == 2
        assert box(None) is None
        assert box() is None

    def test_messages_work_as_calls_do(self, vat):
        box = vat.spawn(cell)
        tell(box, "told")
        assert send(box).result(timeout=30) == "told"

    def test_a_turn_that_fails_sets_nothing(self, vat):
        box = vat.spawn(cell, "before")
        with failing_turn(vat):
            box("after")
            assert box() == "after"
            raise Boom
        assert box() == "before"

    def test_what_it_holds_is_its_own(self, vat):
        """A list that was put in, or got out, can't be changed behind its back."""
        box, things = vat.spawn(cell), [1]
        box(things)
        things.append(2)
        box().append(3)
        assert box() == [1]

    @pytest.mark.parametrize("args", [(1, 2), (1, 2, 3)], ids=str)
    def test_two_values_are_an_error(self, vat, args):
        with pytest.raises(TypeError, match="one value"):
            vat.spawn(cell)(*args)

    def test_it_has_no_methods(self, vat):
        with pytest.raises(AttributeError):
            vat.spawn(cell).get()


class TestProxies:
    def test_one_reads_and_the_other_sets(self, vat):
        box = vat.spawn(cell, 1)
        reads, sets = vat.spawn(read_only, box), vat.spawn(write_only, box)
        assert sets(2) is None
        assert (reads(), box()) == (2, 2)

    def test_the_other_operation_is_an_error_and_changes_nothing(self, vat):
        box = vat.spawn(cell, 1)
        with pytest.raises(AccessDeniedError, match="only reads"):
            vat.spawn(read_only, box)(2)
        with pytest.raises(AccessDeniedError, match="only sets"):
            vat.spawn(write_only, box)()
        with pytest.raises(PermissionError):
            vat.spawn(write_only, box)()
        assert box() == 1

    def test_nobody_gets_at_the_cell_through_them(self, vat):
        box = vat.spawn(cell, 1)
        for proxy in (vat.spawn(read_only, box), vat.spawn(write_only, box)):
            with pytest.raises(AttributeError):
                proxy.target()
            assert "cell" not in repr(proxy)

    def test_one_of_one_is_fine(self, vat):
        box = vat.spawn(cell, 1)
        reads = vat.spawn(read_only, vat.spawn(read_only, box))
        assert reads() == 1
        with pytest.raises(AccessDeniedError):
            vat.spawn(write_only, vat.spawn(read_only, box))(2)

    def test_the_cell_must_be_near(self, vat, other_vat):
        reads = vat.spawn(read_only, other_vat.spawn(cell))
        with pytest.raises(FarCallError):
            reads()


class TestStored:
    @pytest.mark.parametrize(
        "env", [EMPTY, cell_env, PersistenceEnv("test", counter, extends=cell_env)], ids=repr
    )
    def test_every_environment_knows_them(self, place, env):
        def roots():
            box = spawn(cell, 1)
            return box, spawn(read_only, box), spawn(write_only, box)

        vat, *_ = place.spawn(roots, env=env)
        vat, box, reads, sets = place.restart(vat, env=env)
        sets({"deep": [box]})
        assert reads() == {"deep": [box]}
        vat, box, reads, sets = place.restart(vat, env=EMPTY)
        assert reads()["deep"] == [box]
        with pytest.raises(AccessDeniedError):
            reads(1)
        with pytest.raises(AccessDeniedError):
            sets()

    def test_what_cannot_be_stored_is_refused_by_the_one_that_is_stored(self, place, vat):
        _, box = place.spawn(lambda: spawn(cell, "before"), env=EMPTY)
        with pytest.raises(NotPortableError) as caught:
            box(object())
        assert caught.value.trail == "root 0 -> goblins.cell#0.value -> object"
        assert box() == "before"
        vat.spawn(cell)(object())

    def test_its_environment_can_be_joined_with_others(self):
        own = PersistenceEnv("test", counter)
        assert cell_env.labels() == ["goblins.cell", "goblins.read_only", "goblins.write_only"]
        for env in (
            own | cell_env,
            cell_env | own,
            PersistenceEnv("more", extends=[cell_env, own, cell_env]),
        ):
            assert env.labels() == ["test.counter"]

    def test_it_has_its_label_already(self):
        """ENV-11: two labels of one constructor are an error."""
        with pytest.raises(DuplicateLabelError, match="every environment has it"):
            PersistenceEnv("test", cell)
        with pytest.raises(DuplicateLabelError, match="every environment has it"):
            PersistenceEnv({"box": read_only})

    def test_a_class_may_extend_it_under_a_label_of_its_own(self, place):
        class loud(cell, label="loud"):
            def shout(self):
                return str(self.value).upper()

        env = PersistenceEnv("test", loud)
        vat, box = place.spawn(lambda: spawn(loud, "hi"), env=env)
        _, box = place.restart(vat, env=env)
        box("ho")
        assert (box.shout(), box()) == ("HO", "ho")


class Holder(Actor):
    box: cell

    def total(self, more: int) -> int:
        self.box(self.box() + more)
        return self.box()


def test_actors_of_a_class_hold_them_in_fields(place):
    env = PersistenceEnv("test", Holder)
    vat, holder = place.spawn(lambda: spawn(Holder, spawn(cell, 1)), env=env)
    assert holder.total(2) == 3
    _, holder = place.restart(vat, env=env)
    assert holder.total(3) == 6
