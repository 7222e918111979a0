"""Bad input: each kind is a typed error that says what to do, and leaves vat and store in order.

What is wrong with actors and messages as such is tested beside them; here is what is wrong with what
should be stored, with what is stored, and with where it should be stored.
"""

import os

import pytest
from goblins import (
    BehaviorError,
    GoblinsError,
    MemoryStore,
    NotPortableError,
    PersistenceEnv,
    PersistenceError,
    RocksStore,
    StoreError,
    StoreLockedError,
    UnknownLabelError,
    Vat,
    actor,
    methods,
    send,
    spawn,
    spawn_persistent_vat,
    tell,
)
from support import ENV, Boom, caller, cell, collect, counter, failing, failing_turn, must_not_run


class TestConstructors:
    """ACT-05"""

    @pytest.mark.parametrize(
        "constructor",
        [
            pytest.param(42, id="not callable"),
            pytest.param(lambda bcom: None, id="gives nothing"),
            pytest.param(lambda bcom: 42, id="gives a number"),
            pytest.param(actor(lambda bcom: None), id="is an actor that gives nothing"),
        ],
    )
    def test_a_bad_one_is_a_behavior_error_and_its_turn_is_undone(self, place, constructor):
        vat, ticks, box = place.spawn(lambda: (spawn(counter), spawn(cell, "before")))
        with failing_turn(vat, BehaviorError) as caught:
            ticks()
            box.put("after")
            spawn(constructor)
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, GoblinsError)
        assert box.get() == "before"
        _, ticks, box = place.restart(vat)
        assert (ticks(), box.get()) == (0, "before")

    def test_a_bad_root_constructor_leaves_the_store_empty(self, place):
        with pytest.raises(BehaviorError):
            place.spawn(lambda: spawn(42))
        assert list(place.store.vats()) == []
        _, ticks = place.spawn(lambda: spawn(counter))
        assert ticks() == 0


class TestValuesThatCannotBeStored:
    """Guarantee G8"""

    def test_the_error_names_actor_label_slot_vat_and_path_and_says_what_to_do(self, place):
        @actor
        def shelf(bcom, items=()):
            return methods(fill=lambda new: bcom(shelf(bcom, new)), show=lambda: items)

        env = PersistenceEnv("library", shelf)
        vat, ref = place.spawn(lambda: spawn(shelf), env=env, name="reading room")
        with open(os.devnull) as file, pytest.raises(NotPortableError) as caught:
            ref.fill([0, 1, 2, {"file": file}])
        error = caught.value
        assert error.label == "library.shelf"
        assert error.path == "args.items[3].file"
        assert error.vat == "reading room"
        assert isinstance(error.slot, int)
        message = str(error)
        for part in ("shelf", "reading room", "args.items[3].file", "TextIOWrapper", "Ref"):
            assert part in message
        assert ref.show() == ()
        ref.fill(["good"])
        _, ref = place.restart(vat, env=env, name="reading room")
        assert ref.show() == ["good"]

    def test_one_among_the_roots_arguments_leaves_the_store_empty(self, place):
        with pytest.raises(NotPortableError, match=r"args\.value"):
            place.spawn(lambda: spawn(cell, object()))
        assert list(place.store.vats()) == []
        _, box = place.spawn(lambda: spawn(cell, "fine"))
        assert box.get() == "fine"

    def test_one_in_a_later_turn_of_a_churn_undoes_that_turn_alone(self, place, caplog):
        vat, one, two = place.spawn(lambda: (spawn(cell), spawn(cell)))
        with vat:
            tell(one.put, "good")
            tell(two.put, object())
        assert one.get() == "good"
        assert len(caplog.records) == 1
        _, one, two = place.restart(vat)
        assert (one.get(), two.get()) == ("good", None)

    def test_one_breaks_the_promise_of_the_message_that_made_it(self, place):
        _, box = place.spawn(lambda: spawn(cell))
        with pytest.raises(NotPortableError):
            send(box.put, object()).result(timeout=30)
        assert box.get() is None


class TestActorsWithoutAPortrait:
    """POR-08, PV-16"""

    def test_one_that_a_root_reaches_is_an_error_of_that_turn(self, place):
        vat, box = place.spawn(lambda: spawn(cell, "before"))
        run = vat.spawn(caller)
        with pytest.raises(NotPortableError, match="caller") as caught:
            box.put([run])
        assert "@actor" in str(caught.value)
        assert box.get() == "before"
        box.put("after")
        _, box = place.restart(vat)
        assert box.get() == "after"

    def test_one_as_root_leaves_the_store_empty(self, place):
        with pytest.raises(NotPortableError, match="caller"):
            place.spawn(lambda: spawn(caller))
        assert list(place.store.vats()) == []

    def test_one_whose_constructor_is_not_in_the_environment_is_an_error_that_says_so(self, place):
        @actor
        def stranger(bcom):
            return lambda: None

        vat, box = place.spawn(lambda: spawn(cell, "before"))
        odd = vat.spawn(stranger)
        with pytest.raises((NotPortableError, PersistenceError), match="stranger") as caught:
            box.put(odd)
        assert "PersistenceEnv" in str(caught.value)
        assert box.get() == "before"


class TestUnknownLabels:
    """POR-36, LIM-22"""

    def test_a_label_that_is_not_in_the_environment_is_an_error_and_the_store_is_left_as_it_was(self, place):
        vat, *_ = place.spawn(lambda: (spawn(counter, 5), spawn(cell, "kept"), spawn(cell, "too")))
        with pytest.raises(UnknownLabelError, match=r"test\.cell") as caught:
            place.restart(vat, env=PersistenceEnv("test", counter))
        error = caught.value
        assert isinstance(error, LookupError)
        assert error.label == "test.cell"
        assert error.count == 2
        assert error.slot in (0, 1, 2)
        assert str(error.slot) in str(error)
        assert "PersistenceEnv" in str(error)
        _, ticks, box, _ = place.restart()
        assert (ticks(), box.get()) == (5, "kept")

    def test_another_namespace_is_another_label(self, place):
        vat, _ = place.spawn(lambda: spawn(counter))
        with pytest.raises(UnknownLabelError, match=r"test\.counter"):
            place.restart(vat, env=PersistenceEnv("toast", counter, cell))

    def test_a_label_of_an_actor_that_became_another_is_no_harm(self, place):
        @actor
        def egg(bcom):
            return lambda: bcom(bird(bcom))

        @actor
        def bird(bcom):
            return lambda: "tweet"

        vat, ref = place.spawn(lambda: spawn(egg), env=PersistenceEnv("zoo", egg, bird))
        ref()
        _, ref = place.restart(vat, env=PersistenceEnv("zoo", bird))
        assert ref() == "tweet"


class TestStorePaths:
    @staticmethod
    def usable(path):
        with RocksStore(path, sync=False) as store:
            return spawn_persistent_vat(ENV, lambda: spawn(counter), store)[1]() == 0

    def test_a_path_that_is_a_file_is_an_error_and_the_file_is_left_alone(self, tmp_path):
        path = tmp_path / "notes.txt"
        path.write_text("precious")
        with pytest.raises(StoreError, match=r"notes\.txt") as caught:
            RocksStore(path)
        assert isinstance(caught.value, OSError)
        assert "file" in str(caught.value)
        assert path.read_text() == "precious"

    def test_a_path_below_a_file_is_an_error(self, tmp_path):
        path = tmp_path / "notes.txt"
        path.write_text("precious")
        with pytest.raises(StoreError, match=r"notes\.txt"):
            RocksStore(path / "store")
        assert path.read_text() == "precious"

    def test_a_folder_of_other_things_is_left_alone(self, tmp_path):
        (tmp_path / "CURRENT").write_text("what the weather is like")
        with pytest.raises(StoreError):
            RocksStore(tmp_path)
        assert (tmp_path / "CURRENT").read_text() == "what the weather is like"

    @pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
    def test_a_folder_that_is_not_writable_is_an_error(self, tmp_path):
        folder = tmp_path / "locked"
        folder.mkdir()
        folder.chmod(0o500)
        with pytest.raises(StoreError, match="locked"):
            RocksStore(folder / "store")
        folder.chmod(0o700)
        assert self.usable(folder / "store")

    @pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs Linux's /proc")
    def test_a_place_where_nobody_can_write_is_an_error(self):
        with pytest.raises(StoreError, match="/proc/self/store"):
            RocksStore("/proc/self/store")

    def test_a_store_that_another_object_holds_is_an_error_and_the_holder_goes_on(self, tmp_path):
        with RocksStore(tmp_path / "s", sync=False) as store:
            _, ticks = spawn_persistent_vat(ENV, lambda: spawn(counter), store)
            with pytest.raises(StoreLockedError):
                RocksStore(tmp_path / "s")
            assert ticks() == 0

    @pytest.mark.parametrize("path", [None, 42, [], b"\x00"], ids=repr)
    def test_what_is_no_path_is_an_error(self, path):
        with pytest.raises((TypeError, ValueError, StoreError)):
            RocksStore(path)

    def test_texts_and_paths_are_both_fine_also_with_unusual_names(self, tmp_path):
        assert self.usable(str(tmp_path / "as text"))
        assert self.usable(tmp_path / "größe 日本 🗃")
        assert self.usable(tmp_path / "some" / "folders" / "deep")

    def test_an_empty_folder_is_fine(self, tmp_path):
        assert self.usable(tmp_path)

    def test_the_error_of_a_failed_opening_leaves_nothing_locked(self, tmp_path):
        path = tmp_path / "s"
        path.write_text("in the way")
        with pytest.raises(StoreError):
            RocksStore(path)
        path.unlink()
        assert self.usable(path)


class TestArguments:
    def test_the_environment_must_be_one(self, place):
        for env in (None, {}, counter, "test"):
            with pytest.raises(TypeError):
                spawn_persistent_vat(env, lambda: spawn(counter), place.store)

    def test_the_store_must_be_one(self, tmp_path):
        for store in (None, str(tmp_path / "s.db"), tmp_path, {}):
            with pytest.raises(TypeError):
                spawn_persistent_vat(ENV, lambda: spawn(counter), store)

    def test_what_makes_the_roots_must_be_callable(self, place):
        for roots in (None, 42, "text"):
            with pytest.raises(TypeError):
                spawn_persistent_vat(ENV, roots, place.store)

    def test_unknown_options_are_errors(self, place):
        with pytest.raises(TypeError, match="persist_in"):
            place.spawn(lambda: spawn(counter), persist_in="churn")

    def test_options_that_say_nothing_are_errors(self, place):
        for options in ({"persist_on": "sometimes"}, {"log_capacity": -1}, {"name": 3}):
            with pytest.raises((ValueError, TypeError, OverflowError)):
                place.spawn(lambda: spawn(counter), **options)
        _, ticks = place.spawn(lambda: spawn(counter))
        assert ticks() == 0

    @pytest.mark.parametrize("part", [None, 3, b"x"], ids=repr)
    def test_the_name_of_a_part_is_a_text(self, place, part):
        with pytest.raises(TypeError):
            place.store.vat(part)

    def test_opening_from_inside_a_turn_is_an_error(self, place, vat):
        """It would wait for the disk in the middle of a turn."""
        with pytest.raises(GoblinsError):
            vat.run(place.spawn, lambda: spawn(counter))
        _, ticks = place.spawn(lambda: spawn(counter))
        assert ticks() == 0

    def test_a_vat_without_a_store_has_nothing_to_save(self, vat):
        """PV-20"""
        ticks = vat.spawn(counter)
        with pytest.raises(PersistenceError):
            vat.save()
        assert ticks() == 0


def test_after_every_kind_of_bad_input_the_vat_and_the_store_still_work(place):
    """All of the above in one vat, one after the other."""
    vat, ticks, box = place.spawn(lambda: (spawn(counter), spawn(cell)))
    run, fails = vat.spawn(caller), vat.spawn(failing)
    elsewhere = Vat("elsewhere")
    far = elsewhere.spawn(counter)
    attempts = [
        lambda: spawn(42),
        lambda: spawn(lambda bcom: None),
        lambda: box.put(object()),
        lambda: box.put(run),
        lambda: box.put(far),
        lambda: far(),
        lambda: fails(Boom()),
        lambda: box.no_such_method(),
        lambda: box.put(),
        lambda: spawn_persistent_vat(ENV, must_not_run, MemoryStore()),
    ]
    for n, attempt in enumerate(attempts):
        with failing_turn(vat, (GoblinsError, TypeError, Boom)):
            ticks()
            # Some fail at once, and some make their turn fail at its end.
            attempt()
        collect()
        assert ticks() == n
    _, ticks, box = place.restart(vat)
    assert (ticks(), box.get()) == (len(attempts), None)
    elsewhere.close()
