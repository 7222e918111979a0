//! Actors that can be stored: a counter, a cell, a list.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Act, Actor, Behavior, Fault, Message, Promise, Reply, Toy, Turn, Value};
use crate::promise::Outcome;
use crate::record::{FarReference, Portrait, Record, Shape};
use crate::references::{Kept, Reference, kept, reference, settle_restored};
use crate::schema::{Reader, put_bytes, put_varint};
use crate::vat::Vat;

/// A portrait: the label, and the values of the fields.
pub struct Sketch {
    /// The label.
    pub label: &'static str,
    /// Values of the fields.
    pub fields: Vec<Value>,
}

type Maker = fn(Vec<Value>) -> Behavior;

/// Labels, and how to make what they stand for.
pub struct Env {
    makers: HashMap<&'static str, (Arc<Shape>, Maker)>,
}

impl Default for Env {
    fn default() -> Self {
        Self { makers: HashMap::new() }
            .with("counter", &["value"], |fields| counter(int(fields.first())))
            .with("cell", &["value"], |fields| cell(fields.into_iter().next().unwrap_or_default()))
            .with("list", &["items"], |fields| list(fields))
    }
}

impl Env {
    /// This environment with one more label.
    #[must_use]
    pub fn with(mut self, label: &'static str, fields: &[&str], make: Maker) -> Self {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        self.makers
            .insert(label, (Arc::new(Shape { label: label.to_owned(), version: Vec::new(), fields }), make));
        self
    }

    /// This environment without a label.
    #[must_use]
    pub fn without(mut self, label: &str) -> Self {
        self.makers.remove(label);
        self
    }

    /// Whether it has the label.
    pub fn knows(&self, label: &str) -> bool {
        self.makers.contains_key(label)
    }

    pub(super) fn portrait(
        &self,
        vat: &Arc<Vat<Toy>>,
        behavior: &Behavior,
    ) -> Result<Portrait<Actor, Promise>, String> {
        let sketch = behavior.sketch().ok_or("it has no portrait")?;
        let (shape, _) =
            self.makers.get(sketch.label).ok_or_else(|| format!("no label {:?}", sketch.label))?;
        let mut portrait = Portrait {
            shape: shape.clone(),
            name: None,
            refs: Vec::new(),
            far: Vec::new(),
            unsettled: Vec::new(),
            holds_promises: false,
            payload: Vec::new(),
        };
        for field in sketch.fields {
            encode(field, vat, &mut portrait)?;
        }
        Ok(portrait)
    }

    pub(super) fn rehydrate(
        &self,
        shape: &Shape,
        record: &Record,
        refs: &[Actor],
        far: &[Promise],
    ) -> Result<Behavior, Fault> {
        let (_, make) =
            self.makers.get(shape.label.as_str()).ok_or_else(|| raised("the label is not known"))?;
        let mut reader = Reader::new(&record.payload);
        let mut fields = Vec::new();
        while !reader.rest().is_empty() {
            fields.push(decode(&mut reader, refs, far).ok_or_else(|| raised("the payload is malformed"))?);
        }
        Ok(make(fields))
    }
}

fn encode(value: Value, vat: &Arc<Vat<Toy>>, portrait: &mut Portrait<Actor, Promise>) -> Result<(), String> {
    let out = &mut portrait.payload;
    match value {
        Value::Unit => out.push(0),
        Value::Int(number) => {
            out.push(1);
            put_varint(out, number as u64);
        }
        Value::Text(text) => {
            out.push(2);
            put_bytes(out, text.as_bytes());
        }
        Value::Actor(actor) => match reference::<Toy>((), vat, &actor).map_err(|error| error.to_string())? {
            Reference::Near => {
                out.push(3);
                put_varint(out, portrait.refs.len() as u64);
                portrait.refs.push(actor);
            }
            Reference::Far(address) => put_far(FarReference { address, actor: Some(actor) }, portrait),
        },
        Value::Promise(promise) => match kept::<Toy>((), vat, &promise) {
            Kept::Far(address) => put_far(FarReference { address, actor: None }, portrait),
            Kept::Settled(Outcome::Fulfilled(value)) => {
                portrait.holds_promises = true;
                out.push(5);
                encode(value, vat, portrait)?;
            }
            Kept::Settled(Outcome::Broken(fault)) => {
                portrait.holds_promises = true;
                out.push(6);
                put_bytes(out, fault.to_string().as_bytes());
            }
            Kept::Unsettled => {
                portrait.holds_promises = true;
                out.push(6);
                put_bytes(out, b"it had not settled");
                portrait.unsettled.push(promise);
            }
        },
        other => return Err(format!("{other:?} is not portable")),
    }
    Ok(())
}

fn put_far(far: FarReference<Actor>, portrait: &mut Portrait<Actor, Promise>) {
    portrait.payload.push(4);
    put_varint(&mut portrait.payload, portrait.far.len() as u64);
    portrait.far.push(far);
}

fn decode(reader: &mut Reader<'_>, refs: &[Actor], far: &[Promise]) -> Option<Value> {
    let settled = |outcome| {
        let promise = Promise::default();
        settle_restored::<Toy>((), promise.clone(), outcome);
        Value::Promise(promise)
    };
    Some(match reader.byte()? {
        0 => Value::Unit,
        1 => Value::Int(reader.varint()? as i64),
        2 => Value::Text(reader.text()?.into()),
        3 => Value::Actor(refs.get(usize::try_from(reader.varint()?).ok()?)?.clone()),
        4 => Value::Promise(far.get(usize::try_from(reader.varint()?).ok()?)?.clone()),
        5 => settled(Outcome::Fulfilled(decode(reader, refs, far)?)),
        6 => settled(Outcome::Broken(raised(reader.text()?))),
        _ => return None,
    })
}

/// The field that a reference stands in. A list has many values in its one field.
pub(super) fn field_of(shape: &Shape, record: &Record, index: usize) -> Option<String> {
    const REFERENCE: u8 = 3;
    let mut reader = Reader::new(&record.payload);
    let mut fields = shape.fields.iter();
    let mut field = fields.next()?;
    loop {
        match reader.byte()? {
            0 => {}
            2 => drop(reader.text()?),
            kind => {
                let number = reader.varint()?;
                if kind == REFERENCE && number == index as u64 {
                    return Some(field.clone());
                }
            }
        }
        field = fields.next().unwrap_or(field);
    }
}

fn raised(why: &str) -> Fault {
    Fault::Raised(why.to_owned())
}

fn int(value: Option<&Value>) -> i64 {
    match value {
        Some(Value::Int(number)) => *number,
        _ => 0,
    }
}

struct Counter(i64);

/// Answers `add` with its new value, any other message with its value.
pub fn counter(value: i64) -> Behavior {
    Arc::new(Counter(value))
}

impl Act for Counter {
    fn act(&self, _: &Turn<'_>, message: Message) -> Result<Reply, Fault> {
        match (message.method, message.value) {
            ("add", Value::Int(more)) => {
                let sum = self.0 + more;
                Ok(Reply::Become(counter(sum), Value::Int(sum)))
            }
            ("fail", _) => Err(raised("the counter was asked to fail")),
            _ => Ok(Reply::Value(Value::Int(self.0))),
        }
    }

    fn sketch(&self) -> Option<Sketch> {
        Some(Sketch { label: "counter", fields: vec![Value::Int(self.0)] })
    }
}

struct Cell(Value);

/// Answers `set` by taking the value, `call` by calling the actor it holds, any other message with its value.
pub fn cell(value: Value) -> Behavior {
    Arc::new(Cell(value))
}

impl Act for Cell {
    fn act(&self, turn: &Turn<'_>, message: Message) -> Result<Reply, Fault> {
        match (message.method, &self.0) {
            ("set", _) => Ok(Reply::Become(cell(message.value), Value::Unit)),
            ("call", Value::Actor(actor)) => turn.call(actor, "get", message.value).map(Reply::Value),
            (_, value) => Ok(Reply::Value(value.clone())),
        }
    }

    fn sketch(&self) -> Option<Sketch> {
        Some(Sketch { label: "cell", fields: vec![self.0.clone()] })
    }
}

struct List(Vec<Value>);

/// Answers `push` by taking the value, `at` with what stands there, any other message with its length.
pub fn list(items: Vec<Value>) -> Behavior {
    Arc::new(List(items))
}

impl Act for List {
    fn act(&self, _: &Turn<'_>, message: Message) -> Result<Reply, Fault> {
        match (message.method, message.value) {
            ("push", value) => {
                let mut items = self.0.clone();
                items.push(value);
                Ok(Reply::Become(list(items), Value::Unit))
            }
            ("at", Value::Int(index)) => {
                let item = usize::try_from(index).ok().and_then(|index| self.0.get(index));
                item.map(|item| Reply::Value(item.clone())).ok_or_else(|| raised("there is no such item"))
            }
            _ => Ok(Reply::Value(Value::Int(self.0.len() as i64))),
        }
    }

    fn sketch(&self) -> Option<Sketch> {
        Some(Sketch { label: "list", fields: self.0.clone() })
    }
}
