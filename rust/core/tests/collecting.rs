//! What no root reaches is removed from the store, and nothing else ever is, whatever vats do meanwhile (LIM-07).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use common::{ToyVat, named, occupy, puppet, runtime};
use goblins_core::collecting::{LEAST_GROWTH, Pace, Phase, Report};
use goblins_core::faulty::FaultyStore;
use goblins_core::host::Host;
use goblins_core::ids::PartId;
use goblins_core::memory::MemoryStore;
use goblins_core::pool::Runtime;
use goblins_core::schema::{Kind, actor_key, id_of};
use goblins_core::storage::{Fit, Storage, StorageOptions};
use goblins_core::store::{Store, StoreError};
use goblins_core::toy::{
    Act, Actor, Behavior, Env, Fault, Message, Reply, Sketch, Toy, Turn, Value, call, result, spawn,
};
use goblins_core::vat::Vat;
use proptest::prelude::*;

/// An actor that refers to others: `link` adds one, `cut` removes one, `at` gives one, `grow` makes one and links it.
struct Node(Vec<Value>);

fn node(links: Vec<Value>) -> Behavior {
    Arc::new(Node(links))
}

impl Act for Node {
    fn act(&self, turn: &Turn<'_>, message: Message) -> Result<Reply, Fault> {
        let index = |value: &Value| usize::try_from(common::int(value)).unwrap();
        let mut links = self.0.clone();
        let answer = match (message.method, message.value) {
            ("link", actor) => {
                links.push(actor);
                Value::Unit
            }
            ("grow", _) => {
                let made = turn.spawn(node(Vec::new()));
                links.push(Value::Actor(made.clone()));
                Value::Actor(made)
            }
            ("cut", which) => links.remove(index(&which)),
            ("at", which) => return Ok(Reply::Value(links[index(&which)].clone())),
            _ => return Ok(Reply::Value(Value::Int(links.len() as i64))),
        };
        Ok(Reply::Become(node(links), answer))
    }

    fn sketch(&self) -> Option<Sketch> {
        Some(Sketch { label: "node", fields: self.0.clone() })
    }
}

fn slot(actor: &Actor) -> u64 {
    Toy::actor_cell(actor).slot().0
}

fn actor(value: Value) -> Actor {
    match value {
        Value::Actor(actor) => actor,
        other => panic!("{other:?} is not an actor"),
    }
}

struct World {
    store: Arc<FaultyStore<MemoryStore>>,
    storage: Arc<Storage<Toy>>,
    runtime: Arc<Runtime<Toy>>,
}

impl World {
    fn new(options: StorageOptions) -> Self {
        let store = Arc::new(FaultyStore::new(MemoryStore::new(), false));
        let storage = Storage::open_with(store.clone(), options).unwrap();
        Self { store, storage, runtime: runtime() }
    }

    /// Opens a part; founds it with one node if it is new.
    fn open(&self, part: &str) -> (ToyVat, Actor) {
        let claim = self.storage.claim(part).unwrap();
        let env = Env::default().with("node", &["links"], node);
        let opened = Vat::open(&self.runtime, named(part), claim, env, |_| Fit::Fits).unwrap();
        let roots = match opened.record {
            Some(record) => opened.vat.roots((), &record).unwrap(),
            None => {
                let mut id = [7; 16];
                part.bytes().zip(&mut id).for_each(|(byte, place)| *place = byte);
                let made = opened
                    .vat
                    .found((), id, Vec::new(), |churn| Ok(vec![Turn::new(churn).spawn(node(Vec::new()))]));
                made.unwrap()
            }
        };
        opened.vat.publish(());
        (opened.vat, roots.into_iter().next().unwrap())
    }

    fn collect(&self) -> Report {
        let go_on = &mut |_| ControlFlow::Continue(());
        self.storage.collect(Pace::default(), go_on).unwrap().unwrap()
    }

    /// Collects record by record, and does something when the walk has come to the first one.
    fn collect_slowly(&self, meanwhile: impl FnOnce()) -> Report {
        let mut meanwhile = Some(meanwhile);
        let pace = Pace { step: 1, page: 1, ..Pace::default() };
        let report = self.storage.collect(pace, &mut |progress| {
            if progress.done > 1
                && let Some(meanwhile) = meanwhile.take()
            {
                assert_eq!(progress.phase, Phase::Marking);
                meanwhile();
            }
            ControlFlow::Continue(())
        });
        report.unwrap().unwrap()
    }

    /// Slots of the actors that are stored in the part with this number.
    fn stored(&self, part: u32) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        let (start, end) = goblins_core::schema::range(goblins_core::ids::PartId(part), Kind::Actor);
        self.store
            .scan(&start, &end, &mut |key, _| {
                found.insert(id_of(key).unwrap());
                ControlFlow::Continue(())
            })
            .unwrap();
        found
    }
}

fn grow(parent: &Actor) -> Actor {
    actor(call(parent, "grow", Value::Unit).unwrap())
}

fn cut(parent: &Actor, index: i64) -> u64 {
    slot(&actor(call(parent, "cut", Value::Int(index)).unwrap()))
}

#[test]
fn what_no_root_reaches_is_removed_and_counted() {
    let world = World::new(StorageOptions::default());
    let (vat, root) = world.open("main");
    let kept = slot(&grow(&root));
    let lost = grow(&root);
    let below = slot(&grow(&lost));
    let lost_slot = slot(&lost);
    drop(lost);
    assert_eq!(cut(&root, 1), lost_slot);
    assert_eq!(world.stored(1), [slot(&root), kept, lost_slot, below].into());
    let report = world.collect();
    assert_eq!(world.stored(1), [slot(&root), kept].into());
    assert_eq!((report.parts[0].kept, report.parts[0].removed), (2, 2));
    assert!(report.parts[0].bytes > 2 * 13, "{report:?}");
    assert_eq!(world.collect().parts[0].removed, 0);
    vat.close(()).unwrap();
}

#[test]
fn a_cycle_goes_and_so_does_what_refers_to_itself() {
    let world = World::new(StorageOptions::default());
    let (vat, root) = world.open("main");
    {
        let first = grow(&root);
        let second = grow(&first);
        call(&second, "link", Value::Actor(first.clone())).unwrap();
        call(&first, "link", Value::Actor(first.clone())).unwrap();
    }
    cut(&root, 0);
    // In the memory of the toy host they keep each other alive, until the vat is opened again.
    vat.close(()).unwrap();
    let (_vat, _root) = world.open("main");
    assert_eq!(world.collect().parts[0].removed, 2);
    assert_eq!(world.stored(1).len(), 1);
}

#[test]
fn a_reference_in_memory_protects_an_actor_and_all_that_it_reaches() {
    let world = World::new(StorageOptions::default());
    let (_vat, root) = world.open("main");
    let held = grow(&root);
    let below = slot(&grow(&held));
    cut(&root, 0);
    assert_eq!(world.collect().parts[0].removed, 0);
    assert_eq!(slot(&actor(call(&held, "at", Value::Int(0)).unwrap())), below);
    drop(held);
    assert_eq!(world.collect().parts[0].removed, 2);
}

#[test]
fn a_reference_in_memory_protects_what_it_reaches_in_whatever_order_they_were_made() {
    let world = World::new(StorageOptions::default());
    {
        let (vat, root) = world.open("main");
        let first = grow(&root);
        call(&grow(&root), "link", Value::Actor(first)).unwrap();
        vat.close(()).unwrap();
    }
    let (_vat, root) = world.open("main");
    // What it refers to is in the store only.
    let held = actor(call(&root, "at", Value::Int(1)).unwrap());
    cut(&root, 1);
    let first = cut(&root, 0);
    let report = world.collect_slowly(|| ());
    assert_eq!(report.parts[0].removed, 0);
    assert_eq!(slot(&actor(call(&held, "at", Value::Int(0)).unwrap())), first);
}

#[test]
fn an_actor_that_comes_into_memory_during_a_walk_protects_what_it_reaches() {
    let world = World::new(StorageOptions::default());
    {
        let (vat, root) = world.open("main");
        let first = grow(&root);
        let second = grow(&root);
        call(&second, "link", Value::Actor(first)).unwrap();
        call(&grow(&root), "link", Value::Actor(second)).unwrap();
        cut(&root, 1);
        cut(&root, 0);
        grow(&root);
        vat.close(()).unwrap();
    }
    let (_vat, root) = world.open("main");
    let mut held = None;
    // The walk has come to the root, and not to what is below.
    let report = world.collect_slowly(|| {
        let below = actor(call(&root, "at", Value::Int(0)).unwrap());
        held = Some(actor(call(&below, "cut", Value::Int(0)).unwrap()));
    });
    assert_eq!(report.parts[0].removed, 0);
    call(&actor(call(&held.unwrap(), "at", Value::Int(0)).unwrap()), "count", Value::Unit).unwrap();
}

#[test]
fn an_actor_that_is_first_stored_during_a_walk_is_kept() {
    let world = World::new(StorageOptions::default());
    {
        let (vat, root) = world.open("main");
        (0..3).for_each(|_| drop(grow(&root)));
        vat.close(()).unwrap();
    }
    let (vat, root) = world.open("main");
    let fresh = spawn(&vat, node(Vec::new())).unwrap();
    // The walk has come to the root, which then leaves memory together with it.
    let report = world.collect_slowly(|| {
        call(&root, "link", Value::Actor(fresh)).unwrap();
        drop(root);
        vat.run((), |_| Ok(())).unwrap();
    });
    assert_eq!(report.parts[0].removed, 0);
    vat.close(()).unwrap();
    let (_vat, root) = world.open("main");
    call(&actor(call(&root, "at", Value::Int(3)).unwrap()), "count", Value::Unit).unwrap();
}

#[test]
fn an_actor_that_is_moved_while_a_walk_comes_to_its_place_is_kept() {
    let world = World::new(StorageOptions::default());
    let place = {
        let (vat, root) = world.open("main");
        let first = grow(&root);
        let place = grow(&root);
        call(&place, "link", Value::Actor(first)).unwrap();
        cut(&root, 0);
        vat.close(()).unwrap();
        Toy::actor_cell(&place).slot()
    };
    let (vat, root) = world.open("main");
    let here = vat.clone();
    world.store.before_get(actor_key(PartId(1), place), move || {
        let place = actor(call(&root, "at", Value::Int(0)).unwrap());
        let first = call(&place, "cut", Value::Int(0)).unwrap();
        call(&root, "link", first).unwrap();
        drop((place, root));
        here.run((), |_| Ok(())).unwrap();
    });
    assert_eq!(world.collect().parts[0].removed, 0);
    vat.close(()).unwrap();
    let (_vat, root) = world.open("main");
    call(&actor(call(&root, "at", Value::Int(1)).unwrap()), "count", Value::Unit).unwrap();
}

#[test]
fn an_actor_of_a_vat_that_is_not_open_is_kept_as_long_as_somebody_waits_for_it() {
    let world = World::new(StorageOptions::default());
    {
        let ((there, far), (here, root)) = (world.open("there"), world.open("here"));
        call(&grow(&root), "link", Value::Actor(grow(&far))).unwrap();
        cut(&far, 0);
        here.close(()).unwrap();
        there.close(()).unwrap();
    }
    let (_here, root) = world.open("here");
    let mut awaited = None;
    let report = world.collect_slowly(|| {
        let below = actor(call(&root, "at", Value::Int(0)).unwrap());
        awaited = Some(call(&below, "cut", Value::Int(0)).unwrap());
    });
    assert!(report.parts.iter().all(|part| part.removed == 0), "{report:?}");
    let (_there, _far) = world.open("there");
    let Some(Value::Promise(promise)) = awaited else {
        panic!("{awaited:?} is no promise");
    };
    call(&actor(result(&promise).unwrap()), "count", Value::Unit).unwrap();
}

#[test]
fn a_part_without_a_vat_is_collected_too() {
    let world = World::new(StorageOptions::default());
    let (vat, root) = world.open("idle");
    drop(grow(&root));
    cut(&root, 0);
    vat.close(()).unwrap();
    let (_vat, _root) = world.open("main");
    let report = world.collect();
    let found: Vec<_> = report.parts.iter().map(|part| (&*part.name, part.kept, part.removed)).collect();
    assert_eq!(found, [("idle", 1, 1), ("main", 1, 0)]);
    // It is free again.
    let (_vat, root) = world.open("idle");
    assert_eq!(common::int(&call(&root, "count", Value::Unit).unwrap()), 0);
}

#[test]
fn one_that_is_ended_has_lost_nothing_and_the_next_one_begins_anew() {
    let world = World::new(StorageOptions::default());
    let (_vat, root) = world.open("main");
    for _ in 0..10 {
        grow(&root);
    }
    for _ in 0..5 {
        cut(&root, 5);
    }
    let pace = Pace { step: 1, page: 3, ..Pace::default() };
    let mut seen = 0;
    let ended = world.storage.collect(pace, &mut |progress| {
        seen += u32::from(progress.phase == Phase::Sweeping);
        if seen > 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(ended.unwrap(), None);
    let left = world.stored(1).len();
    assert!(6 < left && left < 11, "{left}");
    let removed = world.collect().parts[0].removed as usize;
    assert_eq!((world.stored(1).len(), removed), (6, left - 6));
}

#[test]
fn a_failing_write_stops_the_vats_of_the_store() {
    let world = World::new(StorageOptions::default());
    let (_vat, root) = world.open("main");
    drop(grow(&root));
    cut(&root, 0);
    world.store.fail_write_after(0);
    let error = world.storage.collect(Pace::default(), &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(*error, StoreError::Failed { .. }), "{error}");
    match call(&root, "count", Value::Unit) {
        Err(Fault::Kernel(error)) => assert!(error.to_string().contains("has stopped"), "{error}"),
        other => panic!("expected the vat to have stopped, got {other:?}"),
    }
}

#[test]
fn it_waits_for_a_turn_that_runs_unless_it_is_told_to_end() {
    let world = World::new(StorageOptions::default());
    let (vat, _root) = world.open("main");
    let busy = common::run(&vat, |turn| Ok(turn.spawn(puppet(0)))).unwrap();
    let release = occupy(&busy);
    let mut asked = 0;
    let ended = world.storage.collect(Pace::default(), &mut |_| {
        asked += 1;
        if asked > 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(ended.unwrap(), None);
    release.send(()).unwrap();
    world.collect();
}

#[test]
fn it_begins_by_itself_once_the_store_has_grown() {
    let options = StorageOptions { auto_collect: true, ..StorageOptions::default() };
    let world = World::new(options);
    let (vat, root) = world.open("main");
    drop(grow(&root));
    let lost = cut(&root, 0);
    common::run(&vat, |turn| {
        (0..LEAST_GROWTH).for_each(|_| drop(turn.spawn(node(Vec::new()))));
        Ok(())
    })
    .unwrap();
    // Slots that were given out count once something is written.
    grow(&root);
    let patience = std::time::Instant::now() + common::PATIENCE;
    while world.stored(1).contains(&lost) {
        assert!(std::time::Instant::now() < patience, "nothing was collected");
        std::thread::yield_now();
    }
    world.storage.close(()).unwrap();
}

#[test]
fn closing_the_store_ends_one_that_runs() {
    let world = World::new(StorageOptions::default());
    let (vat, _root) = world.open("main");
    let busy = common::run(&vat, |turn| Ok(turn.spawn(puppet(0)))).unwrap();
    let release = occupy(&busy);
    let mut closing = None;
    // It waits for the turn, until the store is about to be closed.
    let ended = world.storage.collect(Pace::default(), &mut |_| {
        let storage = world.storage.clone();
        closing.get_or_insert_with(|| std::thread::spawn(move || storage.close(()).unwrap()));
        ControlFlow::Continue(())
    });
    assert_eq!(ended.unwrap(), None);
    release.send(()).unwrap();
    closing.unwrap().join().unwrap();
    assert!(matches!(world.storage.part_names(), Err(StoreError::Closed { .. })));
}

#[test]
fn one_can_not_begin_in_the_midst_of_itself() {
    let world = World::new(StorageOptions::default());
    let (_vat, root) = world.open("main");
    drop(grow(&root));
    cut(&root, 0);
    let mut refused = 0;
    let collected = world.storage.collect(Pace::default(), &mut |progress| {
        if progress.total > 0 {
            let error =
                world.storage.collect(Pace::default(), &mut |_| ControlFlow::Continue(())).unwrap_err();
            assert!(matches!(*error, StoreError::BeingCollected { .. }), "{error}");
            refused += 1;
        }
        ControlFlow::Continue(())
    });
    assert_eq!(collected.unwrap().unwrap().parts[0].removed, 1);
    assert!(refused > 0);
    assert_eq!(world.collect().parts[0].removed, 0);
}

#[test]
fn who_watches_it_may_close_the_store() {
    for phase in [Phase::Marking, Phase::Sweeping, Phase::Compacting] {
        let world = World::new(StorageOptions::default());
        let (_vat, root) = world.open("main");
        drop(grow(&root));
        cut(&root, 0);
        let mut closed = 0;
        let ended = world.storage.collect(Pace::default(), &mut |progress| {
            assert_eq!(closed, 0, "it is over");
            if progress.total > 0 && progress.phase == phase {
                world.storage.close(()).unwrap();
                closed += 1;
            }
            ControlFlow::Continue(())
        });
        assert_eq!(ended.unwrap(), None);
        assert_eq!(closed, 1);
    }
}

/// What a test does to the graph. Numbers pick one of what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Grow(usize),
    Link(usize, usize),
    Cut(usize, usize),
    Load(usize, usize),
    Forget(usize),
    Reopen(bool),
    /// Hangs an actor somewhere else, and opens the vat again: so that nothing of that is in memory.
    Move(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0usize..64;
    prop_oneof![
        4 => n.clone().prop_map(Step::Grow),
        4 => (n.clone(), n.clone()).prop_map(|(a, b)| Step::Link(a, b)),
        5 => (n.clone(), n.clone()).prop_map(|(a, b)| Step::Cut(a, b)),
        4 => (n.clone(), n.clone()).prop_map(|(a, b)| Step::Load(a, b)),
        4 => n.prop_map(Step::Forget),
        1 => any::<bool>().prop_map(Step::Reopen),
        20 => (0usize..4096, 0usize..4096).prop_map(|(a, b)| Step::Move(a, b)),
    ]
}

fn growth() -> impl Strategy<Value = Step> {
    let n = 0usize..64;
    prop_oneof![
        6 => n.clone().prop_map(Step::Grow),
        2 => (n.clone(), n.clone()).prop_map(|(a, b)| Step::Link(a, b)),
        2 => (n.clone(), n).prop_map(|(a, b)| Step::Cut(a, b)),
    ]
}

/// One part, and what ought to stand in it.
struct Side {
    name: &'static str,
    vat: ToyVat,
    /// What the test holds; the root comes first.
    held: Vec<Actor>,
    links: BTreeMap<u64, Vec<u64>>,
}

impl Side {
    fn new(world: &World, name: &'static str) -> Self {
        let (vat, root) = world.open(name);
        let links = [(slot(&root), Vec::new())].into();
        Self { name, vat, held: vec![root], links }
    }

    fn pick(&self, number: usize) -> Actor {
        self.held[number % self.held.len()].clone()
    }

    /// An actor that the root reaches, by some way.
    fn descend(&self, mut way: usize) -> Actor {
        let mut at = self.held[0].clone();
        while way > 0 && !self.links[&slot(&at)].is_empty() {
            let index = way % self.links[&slot(&at)].len();
            at = actor(call(&at, "at", Value::Int(index as i64)).unwrap());
            way /= 4;
        }
        at
    }

    fn take(&mut self, step: Step, world: &World) {
        match step {
            Step::Grow(a) => {
                let parent = self.pick(a);
                let made = grow(&parent);
                self.links.get_mut(&slot(&parent)).unwrap().push(slot(&made));
                self.links.insert(slot(&made), Vec::new());
                self.held.push(made);
            }
            Step::Link(a, b) => {
                let (from, to) = (self.pick(a), self.pick(b));
                self.links.get_mut(&slot(&from)).unwrap().push(slot(&to));
                call(&from, "link", Value::Actor(to)).unwrap();
            }
            Step::Cut(a, which) => {
                let from = self.pick(a);
                let links = self.links.get_mut(&slot(&from)).unwrap();
                if !links.is_empty() {
                    let which = which % links.len();
                    links.remove(which);
                    cut(&from, which as i64);
                }
            }
            Step::Load(a, which) => {
                let from = self.pick(a);
                let links = &self.links[&slot(&from)];
                if !links.is_empty() {
                    let which = which % links.len();
                    let found = actor(call(&from, "at", Value::Int(which as i64)).unwrap());
                    assert_eq!(slot(&found), links[which]);
                    self.held.push(found);
                }
            }
            Step::Forget(a) if self.held.len() > 1 => {
                let index = 1 + a % (self.held.len() - 1);
                self.held.swap_remove(index);
            }
            Step::Forget(_) | Step::Reopen(false) => {}
            Step::Move(a, b) => {
                let (from, to) = (self.descend(a), self.descend(b));
                let links = self.links.get_mut(&slot(&from)).unwrap();
                if !links.is_empty() {
                    let moved = links.remove(0);
                    self.links.get_mut(&slot(&to)).unwrap().push(moved);
                    let moved = actor(call(&from, "at", Value::Int(0)).unwrap());
                    cut(&from, 0);
                    call(&to, "link", Value::Actor(moved)).unwrap();
                }
                drop((from, to));
                self.take(Step::Reopen(true), world);
            }
            Step::Reopen(true) => {
                self.vat.close(()).unwrap();
                self.held.clear();
                let (vat, root) = world.open(self.name);
                self.vat = vat;
                self.held.push(root);
            }
        }
    }

    /// What the root and what the test holds reach.
    fn reached(&self) -> BTreeSet<u64> {
        let mut reached = BTreeSet::new();
        let mut todo: Vec<u64> = self.held.iter().map(slot).collect();
        while let Some(slot) = todo.pop() {
            if reached.insert(slot) {
                todo.extend(&self.links[&slot]);
            }
        }
        reached
    }
}

/// Every actor that can be reached can be called.
fn visit(root: &Actor, seen: &mut BTreeSet<u64>) {
    if seen.insert(slot(root)) {
        for index in 0..common::int(&call(root, "count", Value::Unit).unwrap()) {
            visit(&actor(call(root, "at", Value::Int(index)).unwrap()), seen);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_can_be_reached_is_ever_removed_and_all_else_is_in_the_end(
        before in prop::collection::vec((any::<bool>(), growth()), 0..80),
        during in prop::collection::vec((any::<bool>(), step()), 0..80),
        pace in (1usize..4, 1usize..5),
        keep_generations in 0u64..3,
        opened_again: bool,
    ) {
        let world = World::new(StorageOptions { keep_generations, auto_collect: false });
        let mut sides = [Side::new(&world, "left"), Side::new(&world, "right")];
        for (side, step) in before {
            sides[usize::from(side)].take(step, &world);
        }
        if opened_again {
            // Only the roots are in memory.
            sides.iter_mut().for_each(|side| side.take(Step::Reopen(true), &world));
        }
        let mut during = during.into_iter();
        let pace = Pace { step: pace.0, page: pace.1, compact_from: 0 };
        let collected = world.storage.collect(pace, &mut |_| {
            if let Some((side, step)) = during.next() {
                sides[usize::from(side)].take(step, &world);
            }
            ControlFlow::Continue(())
        });
        collected.unwrap().unwrap();
        for (number, side) in (1..).zip(&sides) {
            let (stored, reached) = (world.stored(number), side.reached());
            prop_assert!(stored.is_superset(&reached), "{stored:?} lacks some of {reached:?}");
        }
        // What is in a cycle keeps itself in the memory of the toy host.
        for side in &mut sides {
            side.take(Step::Reopen(true), &world);
        }
        world.collect();
        for (number, side) in (1..).zip(&sides) {
            prop_assert_eq!(world.stored(number), side.reached());
            let mut seen = BTreeSet::new();
            visit(&side.held[0], &mut seen);
            prop_assert_eq!(seen, side.reached());
        }
    }
}
