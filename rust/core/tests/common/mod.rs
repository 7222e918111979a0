//! What the tests share: a store held by the reins, vats on it, and actors that run what they are sent.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::Scope;
use std::time::Duration;

use goblins_core::pool::Runtime;
use goblins_core::storage::{Claim, Fit, Storage};
use goblins_core::store::{Batch, Change, Store, StoreError, Visit};
use goblins_core::toy::{Actor, Behavior, Env, Fault, Message, Reply, Toy, Turn, Value, behavior};
use goblins_core::vat::{OpenError, Opened, Vat, VatOptions};

/// Longer than any test may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub type ToyVat = Arc<Vat<Toy>>;

pub fn runtime() -> Arc<Runtime<Toy>> {
    Runtime::new(2)
}

pub fn named(name: &str) -> VatOptions {
    VatOptions { name: Some(name.to_owned()), log_capacity: None }
}

/// A vat in memory.
pub fn vat(runtime: &Arc<Runtime<Toy>>, name: &str) -> ToyVat {
    Vat::new(runtime, named(name))
}

pub fn raised<T>(why: &str) -> Result<T, Fault> {
    Err(Fault::Raised(why.to_owned()))
}

/// An actor that answers every message with the number it holds; the message `do` brings code to be run,
/// which gets that number, and `set` replaces it.
pub fn puppet(number: i64) -> Behavior {
    behavior(move |turn, message| match (message.method, message.value) {
        ("do", Value::Code(code)) => code.act(turn, Message { method: "", value: Value::Int(number) }),
        ("set", Value::Int(new)) => Ok(Reply::Become(puppet(new), Value::Unit)),
        _ => Ok(Reply::Value(Value::Int(number))),
    })
}

/// Code for a puppet.
pub fn code(run: impl Fn(&Turn<'_>, i64) -> Result<Value, Fault> + Send + Sync + 'static) -> Value {
    Value::Code(behavior(move |turn, message| run(turn, int(&message.value)).map(Reply::Value)))
}

/// Code for a puppet which then becomes another.
pub fn becoming(run: impl Fn(&Turn<'_>, i64) -> Result<i64, Fault> + Send + Sync + 'static) -> Value {
    Value::Code(behavior(move |turn, message| {
        let new = run(turn, int(&message.value))?;
        Ok(Reply::Become(puppet(new), Value::Int(new)))
    }))
}

pub fn int(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        other => panic!("{other:?} is not a number"),
    }
}

pub fn get(actor: &Actor) -> i64 {
    int(&goblins_core::toy::call(actor, "get", Value::Unit).unwrap())
}

/// The actor that a cell holds.
pub fn held(cell: &Actor) -> Actor {
    match goblins_core::toy::call(cell, "get", Value::Unit).unwrap() {
        Value::Actor(actor) => actor,
        other => panic!("{other:?} is not an actor"),
    }
}

pub fn add(actor: &Actor, more: i64) -> Result<i64, Fault> {
    goblins_core::toy::call(actor, "add", Value::Int(more)).map(|value| int(&value))
}

/// Runs code as a turn of its own.
pub fn run<T>(vat: &ToyVat, body: impl FnOnce(&Turn<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
    vat.run((), |churn| body(&Turn::new(churn)))
}

/// Holds the one who runs a puppet's vat inside a turn, until the returned sender is used.
pub fn occupy(puppet: &Actor) -> std::sync::mpsc::SyncSender<()> {
    let (entered, inside) = std::sync::mpsc::sync_channel(0);
    let (release, released) = std::sync::mpsc::sync_channel(1);
    let released = Mutex::new(released);
    let block = code(move |_, _| {
        entered.send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
        Ok(Value::Unit)
    });
    goblins_core::toy::tell(puppet, "do", block);
    inside.recv().unwrap();
    release
}

/// Opens the vat that lives in a part of the storage.
pub fn open(runtime: &Arc<Runtime<Toy>>, storage: &Arc<Storage<Toy>>, part: &str) -> Opened<Toy> {
    try_open(runtime, storage.claim(part).unwrap(), Env::default()).unwrap()
}

pub fn try_open(runtime: &Arc<Runtime<Toy>>, claim: Claim<Toy>, env: Env) -> Result<Opened<Toy>, OpenError> {
    let labels: Vec<String> = ["counter", "cell", "list", "odd"].map(str::to_owned).to_vec();
    let known: Vec<String> = labels.into_iter().filter(|label| env.knows(label)).collect();
    let options = named(claim.name());
    Vat::open(runtime, options, claim, env, move |shape| {
        if known.contains(&shape.label) { Fit::Fits } else { Fit::Unknown }
    })
}

/// The permanent id of the vat in a part.
fn id_of(part: &str) -> [u8; 16] {
    let mut id = [7; 16];
    part.bytes().zip(&mut id).for_each(|(byte, place)| *place = byte);
    id
}

/// Opens a new vat and makes its roots.
pub fn found<const N: usize>(
    runtime: &Arc<Runtime<Toy>>,
    storage: &Arc<Storage<Toy>>,
    part: &str,
    roots: [Behavior; N],
) -> (ToyVat, [Actor; N]) {
    let opened = open(runtime, storage, part);
    assert!(opened.record.is_none(), "the part is not empty");
    let made = opened.vat.found((), id_of(part), Vec::new(), |churn| {
        let turn = Turn::new(churn);
        Ok(roots.into_iter().map(|root| turn.spawn(root)).collect())
    });
    opened.vat.publish(());
    (opened.vat, made.unwrap().try_into().unwrap())
}

/// Opens a stored vat.
pub fn reopen<const N: usize>(
    runtime: &Arc<Runtime<Toy>>,
    storage: &Arc<Storage<Toy>>,
    part: &str,
) -> (ToyVat, [Actor; N]) {
    let opened = open(runtime, storage, part);
    let roots = opened.vat.roots((), &opened.record.expect("nothing is stored")).unwrap();
    opened.vat.publish(());
    (opened.vat, roots.try_into().unwrap())
}

/// A place where threads can be held up.
#[derive(Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

/// Opens a gate when it is dropped.
struct Opening<'a>(&'a Gate);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[derive(Default)]
struct GateState {
    closed: bool,
    inside: usize,
}

impl Gate {
    pub fn close(&self) {
        self.state.lock().unwrap().closed = true;
    }

    pub fn open(&self) {
        self.state.lock().unwrap().closed = false;
        self.changed.notify_all();
    }

    /// Runs code with the gate closed. It is open in the end, whatever comes of that: no thread of the scope stays there.
    pub fn closed<'env, T>(&self, body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
        self.close();
        std::thread::scope(|scope| {
            let _opening = Opening(self);
            body(scope)
        })
    }

    /// Waits until a thread is held up here.
    pub fn wait_for_one(&self) {
        let state = self.state.lock().unwrap();
        let (state, timeout) =
            self.changed.wait_timeout_while(state, PATIENCE, |state| state.inside == 0).unwrap();
        let came = !timeout.timed_out() && state.inside > 0;
        drop(state);
        assert!(came, "nobody came to the gate");
    }

    pub fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.inside += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.closed).unwrap();
        state.inside -= 1;
    }
}

/// A store in memory that counts, fails and waits as it is told. Clones share what they hold, so one can be
/// opened again.
#[derive(Clone, Default)]
pub struct Reins(Arc<Inner>);

#[derive(Default)]
pub struct Inner {
    map: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    batches: Mutex<Vec<Batch>>,
    pub gets: AtomicUsize,
    pub syncs: AtomicUsize,
    pub closes: AtomicUsize,
    pub fail_write: AtomicBool,
    pub fail_sync: AtomicBool,
    /// Results do not wait for the disk.
    pub relaxed: AtomicBool,
    pub write_gate: Gate,
    pub sync_gate: Gate,
}

impl std::ops::Deref for Reins {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Reins {
    pub fn storage(&self) -> Arc<Storage<Toy>> {
        Storage::open(self.clone()).unwrap()
    }

    pub fn contents(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.map.lock().unwrap().clone()
    }

    /// Batches written since this was last asked.
    pub fn take_batches(&self) -> Vec<Batch> {
        std::mem::take(&mut *self.batches.lock().unwrap())
    }

    fn failed(&self, doing: &'static str) -> StoreError {
        StoreError::Failed { store: self.name(), doing, reason: "the test said so".to_owned() }
    }
}

impl Store for Reins {
    fn name(&self) -> String {
        "reins".to_owned()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.gets.fetch_add(1, SeqCst);
        Ok(self.map.lock().unwrap().get(key).cloned())
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        for (key, value) in self.map.lock().unwrap().range(start.to_vec()..end.to_vec()) {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.write_gate.pass();
        if self.fail_write.load(SeqCst) {
            return Err(self.failed("writing"));
        }
        let mut map = self.map.lock().unwrap();
        for change in batch.changes() {
            match change {
                Change::Put(key, value) => drop(map.insert(key.clone(), value.clone())),
                Change::Delete(key) => drop(map.remove(key)),
            }
        }
        self.batches.lock().unwrap().push(batch.clone());
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.syncs.fetch_add(1, SeqCst);
        self.sync_gate.pass();
        if self.fail_sync.load(SeqCst) { Err(self.failed("syncing")) } else { Ok(()) }
    }

    fn syncs(&self) -> bool {
        !self.relaxed.load(SeqCst)
    }

    fn snapshot(&self) -> Result<Arc<dyn Store>, StoreError> {
        Err(self.failed("taking a snapshot"))
    }

    fn close(&self) -> Result<(), StoreError> {
        self.closes.fetch_add(1, SeqCst);
        Ok(())
    }
}

/// Slots of the actors that a batch writes, in order.
pub fn slots(batch: &Batch) -> Vec<u64> {
    const ACTOR: u8 = goblins_core::schema::Kind::Actor as u8;
    let mut slots: Vec<u64> = batch
        .changes()
        .iter()
        .filter_map(|change| match change {
            Change::Put(key, _) if key[4] == ACTOR => goblins_core::schema::id_of(key),
            _ => None,
        })
        .collect();
    slots.sort_unstable();
    slots
}
