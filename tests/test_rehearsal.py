"""A rehearsal says what would become of a store with another environment, and changes nothing."""

import hashlib
import importlib

import pytest
from goblins import (
    Actor,
    DeadlockError,
    Map,
    MemoryStore,
    Migrations,
    PersistenceEnv,
    RocksStore,
    StoreError,
    StoreLockedError,
    actor,
    methods,
    rehearse,
    send,
    spawn,
    spawn_persistent_vat,
)
from support import Boom, cell, counter, must_not_run, run_child


class Account(Actor, label="account"):
    owner: str
    balance: int = 0
    nickname: str = ""

    def total(self):
        return self.balance


def account_of(version=0, upgrade=None, **fields):
    """A later version of the class."""
    names = {"__annotations__": fields, "total": lambda self: self.balance}
    return type("Account", (Actor,), names, label="account", version=version, upgrade=upgrade)


def env_of(*constructors, **options):
    return PersistenceEnv("test", cell, counter, *constructors, **options)


OLD = env_of(Account)


def bank(place, *balances, **options):
    def roots():
        return spawn(cell, [spawn(Account, f"owner {n}", balance) for n, balance in enumerate(balances)])

    return place.spawn(roots, env=OLD, **options)


def slot_of(ref):
    return int(repr(ref).split("#")[1].split()[0])


def checksum(folder):
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


class TestReports:
    def test_that_all_is_fine(self, place):
        bank(place, 1, 2, 3)
        report = rehearse(OLD, place.store)
        assert report.ok
        assert (report.fine, report.failing) == (4, 0)
        assert (report.roots, report.roots_version) == ("fine", 0)
        assert report.lost == {}
        assert report.seconds > 0
        assert repr(report).startswith("<Rehearsal: 4 actors fine, 0 failing, roots fine")

    def test_which_actors_fail_with_slot_field_and_reason(self, place):
        def upgrade(version, fields):
            if fields["balance"] < 0:
                raise Boom("a negative balance")
            if fields["balance"] > 100:
                fields["balance"] = lambda: 1
            return fields

        bank(place, 1, -2, 3, 400)
        new = account_of(1, upgrade, owner=str, balance=int, nickname=str)
        report = rehearse(env_of(new), place.store)
        assert not report.ok
        assert (report.labels["test.account"].fine, report.labels["test.account"].failing) == (2, 2)
        negative, large = sorted(report.problems, key=lambda problem: "balance is" in problem.reason)
        assert (negative.label, negative.reason) == ("test.account", "Boom: a negative balance")
        assert isinstance(negative.error, Boom)
        assert large.field == "balance"
        assert negative.slot != large.slot
        for problem in report.problems:
            assert f"test.account#{problem.slot}" in str(report)

    def test_fields_that_would_be_lost(self, place):
        def upgrade(version, fields):
            return {"owner": fields["owner"], "balance": fields["balance"]}

        bank(place, 1, 2)
        report = rehearse(env_of(account_of(1, upgrade, owner=str, balance=int)), place.store)
        assert report.ok
        assert report.lost == {"test.account": ["nickname"]}
        assert report.labels["test.account"].lost == {"nickname": 2}
        assert "would be lost: field 'nickname' of test.account, in 2 actors" in str(report)

    def test_fields_that_nothing_takes_care_of(self, place):
        bank(place, 1, 2)
        report = rehearse(env_of(account_of(owner=str, balance=int)), place.store)
        assert report.labels["test.account"].failing == 2
        assert "nickname" in report.problems[0].reason

    def test_labels_that_are_not_known(self, place):
        """LIM-22"""
        bank(place, 1, 2)
        report = rehearse(env_of(), place.store)
        ((label, (number, slot)),) = report.unknown.items()
        assert (label, number) == ("test.account", 2)
        assert f"unknown label: test.account, 2 actors (slot {slot} for one)" in str(report)
        assert report.labels["test.cell"].fine == 1
        assert not report.ok

    def test_of_an_empty_store(self, place):
        report = rehearse(OLD, place.store)
        assert report.ok
        assert (report.fine, report.roots, report.roots_version) == (0, "none", None)

    def test_pages_of_collections_count_as_actors(self, place):
        place.spawn(lambda: spawn(cell, Map({n: n for n in range(100)})))
        report = rehearse(env_of(), place.store)
        assert report.ok
        assert any(label.startswith("goblins.") for label in report.labels)

    def test_the_other_parts_of_a_store(self, place):
        place.spawn(lambda: spawn(cell), part="a")
        bank(place, 1, part="b")
        assert rehearse(env_of(), place.store.vat("a")).ok
        assert rehearse(env_of(), place.store.vat("b")).unknown
        assert rehearse(env_of(), place.store).roots == "none"


class TestRoots:
    def test_are_upgraded(self, place):
        steps, seen = Migrations(), []

        @steps.to(1)
        def add_one(root):
            return root, spawn(counter, 5)

        bank(place, 1)
        report = rehearse(
            OLD, place.store, version=1, upgrade=steps, check_roots=lambda *roots: seen.append(len(roots))
        )
        assert (report.ok, report.roots, report.roots_version) == (True, "upgraded", 0)
        assert seen == [2]

    @pytest.mark.parametrize(
        ("upgrade", "text"),
        [
            (None, "no upgrade"),
            (lambda version, root: 1 / 0, "division"),
            (lambda version, root: None, "root"),
            (lambda version, root: spawn(cell, object()), "can't be stored"),
        ],
        ids=["none", "raises", "no root", "not portable"],
    )
    def test_that_can_not_be_upgraded_are_a_problem(self, place, upgrade, text):
        """PV-09, PV-10"""
        bank(place, 1)
        report = rehearse(OLD, place.store, version=1, upgrade=upgrade)
        assert report.roots == "failing"
        (problem,) = report.problems
        assert (problem.label, problem.slot) == ("the roots", None)
        assert text in problem.reason
        assert str(problem).startswith(("the roots: ", "the roots (their version): "))
        assert str(problem) in str(report)
        assert report.fine == 2

    def test_may_be_checked(self, place):
        bank(place, 1, 2)

        def check(box):
            assert sum(account.total() for account in box.get()) == 4

        report = rehearse(OLD, place.store, check_roots=check)
        assert report.roots == "failing"
        assert "== 4" in report.problems[0].reason


class TestChecks:
    def test_get_label_and_ref_of_each_actor(self, place):
        bank(place, 1, -1, 2)
        seen = []

        def check(label, ref):
            seen.append(label)
            if label == "test.account":
                assert ref.total() >= 0

        report = rehearse(OLD, place.store, check=check)
        assert sorted(seen) == ["test.account"] * 3 + ["test.cell"]
        (problem,) = report.problems
        assert problem.reason == "AssertionError: assert -1 >= 0"
        assert report.labels["test.account"].failing == 1

    def test_an_assertion_without_words_is_named_by_its_line(self, place, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "mine_to_check.py").write_text("def check(label, ref):\n    assert label == 'other'\n")
        bank(place)
        report = rehearse(OLD, place.store, check=importlib.import_module("mine_to_check").check)
        assert report.problems[0].reason == "AssertionError: assert label == 'other' (line 2)"

    def test_change_nothing_and_send_nothing(self, place, vat):
        told = []
        far = vat.spawn(lambda bcom: told.append)

        def check(label, ref):
            if label == "test.counter":
                assert ref() == 5
                send(far, "never")
                spawn(cell)

        ours, ticks, box = place.spawn(lambda: (t := spawn(counter, 5), spawn(cell, t)))
        assert rehearse(env_of(), place.store, check=check, check_roots=lambda ticks, box: box.get()()).ok
        vat.drain(30)
        assert told == []
        assert ticks() == 5

    def test_an_interrupt_ends_it(self, place):
        def check(label, ref):
            raise KeyboardInterrupt

        ours, root = bank(place, 1)
        with pytest.raises(KeyboardInterrupt):
            rehearse(OLD, place.store, check=check)
        assert root.get()[0].total() == 1


class TestStores:
    def test_vats_that_live_on_a_store_go_on(self, place):
        vat, root = bank(place, 1, 2)
        told = []

        def look(done, total):
            # In the midst of it.
            told.append((done, total))
            root.put([*root.get(), None])

        report = rehearse(env_of(), place.store, progress=look)
        assert report.unknown["test.account"][0] == 2
        assert told == [(0, 3), (3, 3)]
        assert len(root.get()) == 4
        _, root = place.restart(vat, env=OLD)
        assert len(root.get()) == 4

    def test_of_a_folder_no_byte_changes(self, tmp_path):
        folder = tmp_path / "bank.db"
        with RocksStore(folder) as store:
            spawn_persistent_vat(OLD, lambda: spawn(cell, [spawn(Account, "Ada", 5)]), store)
        before = checksum(folder)
        names = {"owner": str, "balance": int, "nickname": str, "note": str}
        new = account_of(1, lambda version, fields: {**fields, "note": "x"}, **names)
        steps = Migrations()
        steps.to(1)(lambda root: (root, spawn(counter)))
        report = rehearse(env_of(new), folder, version=1, upgrade=steps, check=lambda label, ref: None)
        assert report.ok
        assert report.fine == 2
        assert checksum(folder) == before
        # What is in the log only, since the process was killed, is seen and left there.
        run_child("leave_in_the_log.py", folder)
        before = checksum(folder)
        seen = []
        report = rehearse(OLD, str(folder), check_roots=lambda root: seen.append(len(root.get())))
        assert report.ok
        assert seen == [2]
        assert checksum(folder) == before

    def test_a_folder_that_is_in_use_is_refused(self, rocks):
        bank(rocks, 1)
        with pytest.raises(StoreLockedError):
            rehearse(OLD, rocks.folder / "store.db")
        assert rehearse(OLD, rocks.store).ok

    def test_a_folder_without_a_store_is_refused_and_stays_as_it_is(self, tmp_path):
        for folder in (tmp_path / "empty", tmp_path / "none"):
            if folder.name == "empty":
                folder.mkdir()
            with pytest.raises(StoreError, match="no store"):
                rehearse(OLD, folder)
        assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]

    def test_nothing_is_held_afterwards(self, rocks):
        vat, _ = bank(rocks, 1)
        rehearse(OLD, rocks.store)
        vat, root = rocks.restart(vat, env=OLD)
        assert root.get()[0].total() == 1

    def test_a_closed_store_is_an_error(self):
        store = MemoryStore()
        store.close()
        with pytest.raises(StoreError, match="closed"):
            rehearse(OLD, store)

    def test_it_can_not_be_called_in_a_turn(self, place):
        vat, _ = bank(place, 1)
        with pytest.raises(DeadlockError), vat:
            rehearse(OLD, place.store)

    @pytest.mark.parametrize("arguments", [(None, MemoryStore()), (OLD, 5)], ids=["env", "store"])
    def test_wrong_arguments_are_refused(self, arguments):
        with pytest.raises(TypeError):
            rehearse(*arguments)


def test_three_bad_ones_among_many_are_named_and_the_memory_stays_bounded(tmp_path):
    """The same with 200,000 is in benches/rehearsal.py."""
    count, bad = 20_000, {17, 9_000, 19_999}
    folder = tmp_path / "large.db"

    @actor(label="account")
    def small(bcom, balance):
        return methods(total=lambda: balance)

    with RocksStore(folder, sync=False) as store:
        vat, root = spawn_persistent_vat(env_of(small), lambda: spawn(cell, []), store)
        slots = set()
        for first in range(0, count, 1000):
            with vat:
                made = [spawn(small, -1 if n in bad else n) for n in range(first, first + 1000)]
                root.put([*root.get(), spawn(cell, made)])
            slots |= {slot_of(made[n - first]) for n in bad if first <= n < first + 1000}
    before = checksum(folder)

    def upgrade(version, fields):
        assert fields["balance"] >= 0
        return fields

    @actor(label="account", version=1, upgrade=upgrade)
    def strict(bcom, balance):
        return methods(total=lambda: balance)

    report = rehearse(env_of(strict), folder)
    assert {problem.slot for problem in report.problems} == slots
    assert len(report.problems) == 3
    assert report.labels["test.account"].fine == count - 3
    assert checksum(folder) == before
    with RocksStore(folder, sync=False) as store:
        vat, root = spawn_persistent_vat(env_of(small), must_not_run, store)
        assert len(root.get()) == count // 1000


def test_what_fails_in_the_same_way_is_told_of_in_one_line(place):
    def check(label, ref):
        if label == "test.account":
            raise Boom(f"#{slot_of(ref)} has no money")

    bank(place, *range(600))
    report = rehearse(OLD, place.store, check=check)
    lines = [line for line in str(report).splitlines() if line.startswith("problem: ")]
    (line,) = lines
    first = report.problems[0].slot
    assert line.startswith(f"problem: test.account#{first}, #{first + 1}, #{first + 2} and ")
    assert line.endswith("has no money")
    assert len(report.problems) > 3


def test_of_many_ways_to_fail_the_first_are_told_of(place):
    def check(label, ref):
        if label == "test.account":
            raise Boom(f"{ref.total()} is not enough")

    bank(place, *range(1000, 1050))
    report = rehearse(OLD, place.store, check=check)
    lines = [line for line in str(report).splitlines() if line.startswith("problem: ")]
    assert len(lines) == 11
    assert lines[-1] == "problem: test.account: 40 more, for other reasons: see .problems"
