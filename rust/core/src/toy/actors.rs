//! Actors that can be stored: a counter, a cell, a list.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Act, Actor, Behavior, Fault, Message, Reply, Turn, Value};
use crate::record::{Portrait, Record, Shape};
use crate::schema::{Reader, put_bytes, put_varint};

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

    pub(super) fn portrait(&self, behavior: &Behavior) -> Result<Portrait<Actor>, String> {
        let sketch = behavior.sketch().ok_or("it has no portrait")?;
        let (shape, _) =
            self.makers.get(sketch.label).ok_or_else(|| format!("no label {:?}", sketch.label))?;
        let (mut refs, mut payload) = (Vec::new(), Vec::new());
        for field in sketch.fields {
            encode(field, &mut refs, &mut payload)?;
        }
        Ok(Portrait { shape: shape.clone(), name: None, refs, payload })
    }

    pub(super) fn rehydrate(
        &self,
        shape: &Shape,
        record: &Record,
        refs: &[Actor],
    ) -> Result<Behavior, Fault> {
        let (_, make) =
            self.makers.get(shape.label.as_str()).ok_or_else(|| raised("the label is not known"))?;
        let mut reader = Reader::new(&record.payload);
        let mut fields = Vec::new();
        while !reader.rest().is_empty() {
            fields.push(decode(&mut reader, refs).ok_or_else(|| raised("the payload is malformed"))?);
        }
        Ok(make(fields))
    }
}

fn encode(value: Value, refs: &mut Vec<Actor>, out: &mut Vec<u8>) -> Result<(), String> {
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
        Value::Actor(actor) => {
            out.push(3);
            put_varint(out, refs.len() as u64);
            refs.push(actor);
        }
        other => return Err(format!("{other:?} is not portable")),
    }
    Ok(())
}

fn decode(reader: &mut Reader<'_>, refs: &[Actor]) -> Option<Value> {
    Some(match reader.byte()? {
        0 => Value::Unit,
        1 => Value::Int(reader.varint()? as i64),
        2 => Value::Text(reader.text()?.into()),
        3 => Value::Actor(refs.get(usize::try_from(reader.varint()?).ok()?)?.clone()),
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
