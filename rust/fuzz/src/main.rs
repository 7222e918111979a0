//! Tries the readers of records with bytes that nobody wrote, for as many seconds as it is told:
//! `cargo run --release -- 60 [seed]`.
//!
//! Each round changes what the core writes, or makes bytes up, and reads them as every kind of record; then a store is
//! made of such records, with checksums that fit, and opened, listed and collected. Whatever is there, it ends with
//! values or errors. A panic names the seed of its round.

use std::io::Write;
use std::time::{Duration, Instant};

use goblins_core::collecting::Pace;
use goblins_core::ids::{Address, PartId, PermanentId, ShapeId, Slot};
use goblins_core::memory::MemoryStore;
use goblins_core::record::{Record, Shape, VatRecord};
use goblins_core::schema::{self, Kind, Reader};
use goblins_core::storage::{Storage, StorageOptions};
use goblins_core::store::{Batch, Store};
use goblins_core::toy::Toy;

/// Numbers by xorshift: the same for each seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.roll() % end as u64) as usize }
    }

    /// A number that is small, large, or at a border.
    fn number(&mut self) -> u64 {
        const BORDERS: [u64; 10] =
            [0, 1, 127, 128, 255, 1 << 16, 1 << 40, (1 << 53) + 1, u64::MAX >> 1, u64::MAX];
        match self.below(3) {
            0 => self.roll() % 8,
            1 => BORDERS[self.below(BORDERS.len())],
            _ => self.roll(),
        }
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.roll() as u8).collect()
    }

    fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes(8)).into_owned()
    }

    fn some<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(5)).map(|_| make(self)).collect()
    }
}

/// The content of a record as it may have been written.
fn written(dice: &mut Dice, kind: Kind) -> Vec<u8> {
    let numbers = |dice: &mut Dice, count: usize| {
        let mut out = Vec::new();
        (0..count).for_each(|_| schema::put_varint(&mut out, dice.number()));
        out
    };
    match kind {
        Kind::Format => vec![1],
        Kind::PartName | Kind::Exported => dice.text().into_bytes(),
        Kind::Collection => numbers(dice, 2),
        Kind::NextSlot => numbers(dice, 1),
        Kind::Generations => numbers(dice, 6),
        Kind::Past => dice.bytes(60),
        Kind::Vat => {
            let roots = dice.some(|dice| Slot(dice.number()));
            VatRecord { id: [dice.roll() as u8; 16], roots_version: dice.bytes(4), roots }.encode()
        }
        Kind::Shape => {
            Shape { label: dice.text(), version: dice.bytes(4), fields: dice.some(Dice::text) }.encode()
        }
        Kind::Actor => Record {
            shape: ShapeId(dice.below(3) as u32),
            name: (dice.below(2) == 0).then(|| dice.text()),
            slots: dice.some(|dice| Slot(dice.number())),
            far: dice.some(|dice| Address { vat: PermanentId([1; 16]), slot: Slot(dice.number()) }),
            payload: dice.bytes(20),
        }
        .encode(),
        // A kind that is new has to be added here.
        #[allow(unreachable_patterns)]
        _ => dice.bytes(20),
    }
}

/// Changes a content here and there, or not at all.
fn damaged(dice: &mut Dice, mut content: Vec<u8>) -> Vec<u8> {
    for _ in 0..dice.below(3) {
        let at = dice.below(content.len());
        match dice.below(5) {
            0 if !content.is_empty() => content[at] = dice.roll() as u8,
            1 => content.truncate(at),
            2 => content.extend(dice.bytes(6)),
            3 => {
                let mut number = Vec::new();
                schema::put_varint(&mut number, dice.number());
                content.splice(at..at, number);
            }
            _ => content = dice.bytes(40),
        }
    }
    content
}

/// Reads bytes as everything that they may be.
fn read(content: &[u8]) {
    let _ = Record::decode(content);
    let _ = Record::references_of(content);
    let _ = Record::shape_of(content);
    let _ = VatRecord::decode(content);
    let _ = Shape::decode(content);
    let _ = schema::number(content);
    let _ = schema::parts_of(content);
    let _ = schema::describe(content);
    let _ = schema::check_format("fuzz", content);
    let mut reader = Reader::new(content);
    let _ = (reader.text(), reader.varints(), reader.array::<16>());
}

/// Opens, lists and collects a store of such records.
fn open(dice: &mut Dice) {
    let store = MemoryStore::new();
    let mut batch = Batch::new();
    let mut put = |dice: &mut Dice, part: u32, kind: Kind, id: u64, content: Vec<u8>| {
        // Now and then a record is missing.
        if dice.below(30) > 0 {
            let key = schema::key(PartId(part), kind, id);
            let value = schema::seal(&key, content);
            batch.put(key, value);
        }
    };
    let mut any = |dice: &mut Dice, part: u32, kind: Kind, id: u64| {
        let content = written(dice, kind);
        let content = if dice.below(4) == 0 { damaged(dice, content) } else { content };
        put(dice, part, kind, id, content);
    };
    any(dice, 0, Kind::Format, 0);
    any(dice, 0, Kind::Collection, 0);
    for part in 1..=2 {
        any(dice, 0, Kind::PartName, u64::from(part));
        for kind in [Kind::Vat, Kind::NextSlot, Kind::Shape, Kind::Generations, Kind::Exported] {
            any(dice, part, kind, 0);
        }
        for _ in 0..dice.below(6) {
            let slot = dice.number();
            any(dice, part, Kind::Actor, slot);
        }
        let piece = dice.number();
        any(dice, part, Kind::Past, piece);
    }
    if store.write(&batch).is_err() {
        return;
    }
    let options = StorageOptions { keep_generations: 2, auto_collect: true };
    let Ok(storage) = Storage::<Toy>::open_with(store, options) else {
        return;
    };
    for name in storage.part_names().unwrap_or_default() {
        for generation in storage.generations(&name).unwrap_or_default() {
            let _ = storage.at(&name, i128::from(generation.number)).map(|view| view.close(()));
        }
        if let Ok(claim) = storage.claim(&name) {
            let _ = (claim.read_vat(), claim.read_next_slot(), claim.read_shapes());
            let _ = (claim.read_actor(Slot(0)), claim.read_title(Slot(dice.number())));
        }
    }
    let _ = storage.collect(Pace::default(), &mut |_| std::ops::ControlFlow::Continue(()));
    let _ = storage.close(());
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let time = Duration::from_secs(arguments.next().unwrap_or(10));
    let first = arguments.next().unwrap_or(1);
    let begun = Instant::now();
    let mut seed = first;
    std::panic::set_hook(Box::new({
        let before = std::panic::take_hook();
        move |what| {
            before(what);
            // In the background too.
            std::process::exit(1);
        }
    }));
    while begun.elapsed() < time {
        // What is seen last is what panicked.
        if seed % 1000 == first % 1000 {
            print!("\r{seed}");
            let _ = std::io::stdout().flush();
        }
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for kind in Kind::ALL {
            let content = written(&mut dice, kind);
            read(&damaged(&mut dice, content));
        }
        open(&mut dice);
        seed += 1;
    }
    println!("\r{} rounds, seeds {first} to {}", seed - first, seed - 1);
}
