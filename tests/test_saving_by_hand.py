"""`persist_on="manual"`: nothing is written but by `vat.save()`, and that writes all that has changed.

Turns are all or nothing as ever, and what can't be stored fails its own turn. What was not saved when the vat
is closed, or its process ends, is as if it had not happened.
"""

import logging
import os
import random
import signal
import weakref

import pytest
from goblins import (
    Actor,
    AsyncioVat,
    DeadlockError,
    ManualVat,
    Migrations,
    NotPortableError,
    PersistenceEnv,
    PersistenceError,
    RocksStore,
    VatClosedError,
    actor,
    methods,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from support import ENV, Boom, cell, collect, counter, failing_turn, must_not_run, running_child


def by_hand(place, roots, **options):
    return place.spawn(roots, persist_on="manual", **options)


def restart(place, *vats, **options):
    return place.restart(*vats, persist_on="manual", **options)


class Team(Actor):
    members: list = []

    def hire(self, name):
        self.members.append(spawn(Member, name))

    def names(self):
        return [member.name_of() for member in self.members]

    def rename_first(self, name):
        """Changes an actor that is no root, and not this one."""
        self.members[0].rename(name)


class Member(Actor):
    name: str

    def name_of(self):
        return self.name

    def rename(self, name):
        self.name = name


TEAM = PersistenceEnv("team", Team, Member)


class TestWhatIsWritten:
    def test_the_roots_are_there_from_the_first_opening_on(self, place):
        """PV-03: the first save is made at once in this mode too."""
        vat, ticks = by_hand(place, lambda: spawn(counter, 7))
        ticks()
        _, ticks = restart(place, vat)
        assert ticks() == 7

    def test_churns_write_nothing(self, rocks):
        """PV-05"""

        def log_size():
            return sum(path.stat().st_size for path in rocks.folder.rglob("*.log"))

        vat, ticks, box = by_hand(rocks, lambda: (spawn(counter), spawn(cell)))
        # The counter of slots is written, for many at once.
        vat.spawn(cell)
        before = log_size()
        assert before > 0
        for _ in range(100):
            ticks()
        vat.run(lambda: box.put(spawn(cell, "new")))
        tell(ticks)
        vat.drain()
        assert log_size() == before
        vat.save()
        assert log_size() > before

    def test_a_save_writes_all_that_has_changed_and_not_only_roots(self, place):
        """PV-22, LIM-04: there the second save loses what was known before."""
        vat, team = by_hand(place, lambda: spawn(Team), env=TEAM)
        for name in ("Ada", "Bob"):
            team.hire(name)
        vat.save()
        vat.run(lambda: team.names())
        team.hire("Cy")
        vat.save()
        vat, team = restart(place, vat, env=TEAM)
        assert team.names() == ["Ada", "Bob", "Cy"]
        # The first save after an opening, of an actor that is no root.
        team.rename_first("Zoe")
        vat.save()
        vat.save()
        _, team = restart(place, vat, env=TEAM)
        assert team.names() == ["Zoe", "Bob", "Cy"]

    def test_what_was_not_saved_is_gone_as_a_whole(self, place):
        vat, team = by_hand(place, lambda: spawn(Team), env=TEAM)
        team.hire("Ada")
        vat.save()
        team.hire("Bob")
        team.rename_first("Zoe")
        assert team.names() == ["Zoe", "Bob"]
        _, team = restart(place, vat, env=TEAM)
        assert team.names() == ["Ada"]

    def test_an_actor_that_left_memory_before_the_save_comes_back_as_it_was(self, place):
        vat, box = by_hand(place, lambda: spawn(cell, spawn(cell, spawn(cell, "saved"))))
        vat, box = restart(place, vat)
        found = []
        with failing_turn(vat):
            found.append(box.get().get())
            raise Boom
        # Those on the way to it are ghosts again, so nothing else in memory holds it.
        inner = found.pop()
        inner.put("changed")
        away = weakref.ref(inner)
        del inner
        collect()
        assert away() is None
        assert box.get().get().get() == "changed"
        vat.save()
        _, box = restart(place, vat)
        assert box.get().get().get() == "changed"

    def test_new_roots_of_an_upgrade_are_written_at_once_with_all_else(self, place):
        vat, ticks, box = by_hand(place, lambda: (spawn(counter), spawn(cell, "kept")))
        vat.close()
        migrations = Migrations()

        @migrations.to(1)
        def swap(ticks, box):
            ticks()
            return box, ticks

        vat, box, ticks = restart(place, version=1, upgrade=migrations)
        box.put("lost")
        _, box, ticks = restart(place, vat, version=1)
        assert (box.get(), ticks()) == ("kept", 1)

    def test_changes_of_each_kind_of_churn_wait_for_the_save(self, place):
        vat, ticks = by_hand(place, lambda: spawn(counter))
        ticks()
        with vat:
            ticks()
            ticks()
        vat.run(ticks)
        send(ticks).result(timeout=30)
        tell(ticks)
        vat.save()
        _, ticks = restart(place, vat)
        assert ticks() == 6


class TestTurns:
    def test_what_cannot_be_stored_fails_its_turn_and_not_the_save(self, place):
        """G8"""
        vat, ticks, box = by_hand(place, lambda: (spawn(counter), spawn(cell, "before")))
        with failing_turn(vat, NotPortableError) as caught:
            ticks()
            box.put(lambda: None)
        assert caught.value.trail.startswith("root 1 -> test.cell#1.value")
        ticks()
        vat.save()
        _, ticks, box = restart(place, vat)
        assert (ticks(), box.get()) == (1, "before")

    def test_a_turn_that_fails_leaves_nothing_for_the_save(self, place):
        """G1"""
        vat, ticks, box = by_hand(place, lambda: (spawn(counter), spawn(cell)))
        with failing_turn(vat):
            ticks()
            box.put(spawn(cell))
            raise Boom
        box.put("kept")
        vat.save()
        _, ticks, box = restart(place, vat)
        assert (ticks(), box.get()) == (0, "kept")


class TestSaving:
    def test_it_is_harmless_in_a_vat_that_saves_each_churn(self, place):
        vat, ticks = place.spawn(lambda: spawn(counter))
        vat.save()
        ticks()
        vat.save()
        vat.save()
        _, ticks = place.restart(vat)
        assert ticks() == 1

    def test_a_vat_without_a_store_has_nothing_to_save(self, vat):
        """PV-20"""
        with pytest.raises(PersistenceError, match="home is not persistent"):
            vat.save()

    def test_in_a_turn_it_is_an_error(self, place):
        vat, ticks = by_hand(place, lambda: spawn(counter))
        with failing_turn(vat, DeadlockError):
            ticks()
            vat.save()
        assert ticks() == 0

    def test_a_closed_vat_says_so(self, place):
        vat, _ = by_hand(place, lambda: spawn(counter))
        vat.close()
        with pytest.raises(VatClosedError):
            vat.save()

    def test_what_waits_in_the_vat_is_done_first(self, place):
        vat, ticks = by_hand(place, lambda: spawn(counter))
        for _ in range(200):
            tell(ticks)
        vat.save()
        _, ticks = restart(place, vat)
        assert ticks() == 200

    def test_of_a_vat_that_is_run_by_hand_it_saves_what_was_done(self, place):
        vat, ticks = by_hand(place, lambda: spawn(counter), vat_constructor=ManualVat)
        tell(ticks)
        tell(ticks)
        vat.step()
        vat.save()
        assert vat.backlog == 1
        _, ticks = restart(place, vat)
        assert ticks() == 1

    def test_with_a_store_that_syncs_it_waits_for_the_disk(self, tmp_path):
        with RocksStore(tmp_path / "s.db", sync=True) as store:
            vat, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store, persist_on="manual")
            for number in range(20):
                assert ticks() == number
                vat.save()
        with RocksStore(tmp_path / "s.db", sync=True) as store:
            _, ticks = spawn_persistent_vat(ENV, must_not_run, store)
            assert ticks() == 20

    def test_the_mode_may_be_another_at_the_next_opening(self, place):
        vat, ticks = by_hand(place, lambda: spawn(counter))
        ticks()
        vat.save()
        vat, ticks = place.restart(vat)
        ticks()
        vat, ticks = restart(place, vat)
        ticks()
        _, ticks = place.restart(vat)
        assert ticks() == 2


class TestInAsyncio:
    async def test_it_is_awaited(self, place):
        vat, ticks = by_hand(place, lambda: spawn(counter))
        await send(ticks)
        await vat.save_async()
        _, ticks = restart(place, vat)
        assert ticks() == 1

    async def test_a_vat_on_this_loop_is_saved_there(self, place):
        vat, ticks = by_hand(place, lambda: spawn(counter), vat_constructor=AsyncioVat)
        await send(ticks)
        await vat.save_async()
        await send(ticks)
        vat.save()
        await send(ticks)
        await vat.close_async()
        _, ticks = restart(place)
        assert ticks() == 2

    async def test_its_errors_are_raised(self, vat, place):
        with pytest.raises(PersistenceError, match="not persistent"):
            await vat.save_async()
        stored, _ = by_hand(place, lambda: spawn(counter), vat_constructor=ManualVat)
        await stored.save_async()
        stored.close()
        with pytest.raises(VatClosedError):
            await stored.save_async()


class TestClosing:
    def test_it_tells_of_changes_that_get_lost(self, place, caplog):
        """G10"""
        vat, ticks, box = by_hand(place, lambda: (spawn(counter), spawn(cell)))
        ticks()
        vat.save()
        with caplog.at_level(logging.DEBUG, logger="goblins"):
            vat.close()
            assert caplog.records == []
            vat, ticks, box = restart(place)
            ticks()
            box.put(1)
            vat.close()
        [record] = caplog.records
        assert "closed without a save" in record.getMessage()
        assert "changed 2 actor(s) since its last save" in str(record.exc_info[1])

    def test_so_does_the_store_that_closes_it(self, place, caplog):
        _, ticks = by_hand(place, lambda: spawn(counter))
        ticks()
        with caplog.at_level(logging.DEBUG, logger="goblins"):
            place.store.close()
        assert len(caplog.records) == 1

    def test_one_that_nobody_holds_any_more_tells_of_them_too(self, place, caplog):
        vat, ticks, box = by_hand(place, lambda: (spawn(counter), spawn(cell)))
        ticks()
        with caplog.at_level(logging.DEBUG, logger="goblins"):
            del vat, ticks, box
            collect()
        [record] = caplog.records
        assert "collected without a save" in record.getMessage()
        assert "changed 1 actor(s) since its last save" in str(record.exc_info[1])
        _, ticks, box = restart(place)
        assert ticks() == 0

    def test_one_that_was_saved_goes_in_silence(self, place, caplog):
        vat, ticks = by_hand(place, lambda: spawn(counter))
        ticks()
        vat.save()
        with caplog.at_level(logging.DEBUG, logger="goblins"):
            del vat, ticks
            collect()
        assert caplog.records == []
        _, ticks = restart(place)
        assert ticks() == 1

    def test_changes_of_what_is_not_stored_are_no_loss(self, place, caplog):
        vat, ticks = by_hand(place, lambda: spawn(counter))
        passing = vat.spawn(counter)
        passing()
        with caplog.at_level(logging.DEBUG, logger="goblins"):
            vat.close()
        assert caplog.records == []


KILLS = 40


@pytest.mark.timeout(300)
@pytest.mark.parametrize("sync", ["sync", "no sync"])
def test_after_a_kill_the_last_save_is_found_exactly(tmp_path, sync):
    """Never a part of what came after it. A save that was on its way may be there as a whole."""
    seed = int(os.environ.get("GOBLINS_TEST_SEED", random.randrange(2**32)))
    moments = random.Random(seed)
    saved, saving, saves = 0, None, 0
    for kill in range(KILLS):
        told = f"kill {kill}, GOBLINS_TEST_SEED={seed}"
        with running_child("killed_save.py", tmp_path / "shop.db", sync) as child:
            assert child.stdout.readline() == b"started\n", told
            lines = [child.stdout.readline() for _ in range(1 + moments.randrange(60))]
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.readlines()
        for line in lines:
            word, *numbers = line.split()
            match word:
                case b"found":
                    done, rounds, items = map(int, numbers)
                    assert done == rounds == items, f"a part of a save: {line}, {told}"
                    assert done in (saved, saving), f"{done} for {saved} or {saving}, {told}"
                    saved, saving = done, None
                case b"saving":
                    saving = int(numbers[0])
                case b"saved":
                    saved, saving, saves = int(numbers[0]), None, saves + 1
    assert saves > KILLS


def test_memory_does_not_grow_with_churns_that_are_not_saved(memory):
    """Of each actor one record waits, and no way back: the behaviors of old are let go."""

    class Thing:
        pass

    @actor
    def keeper(bcom, number, thing=None):
        return methods(
            put=lambda thing: bcom(keeper(bcom, number + 1, None), held.append(weakref.ref(thing)))
        )

    held = []
    env = PersistenceEnv("test", keeper)
    vat, ref = by_hand(memory, lambda: spawn(keeper, 0), env=env)
    for _ in range(10):
        ref.put(Thing())
    collect()
    assert [thing() for thing in held] == [None] * 10
    vat.save()
