//! What the user wants a vat to be like.

use std::time::Duration;

use goblins_core::vat::VatOptions;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::opening::Opening;
use crate::texts::text;

/// How many events a log holds, where nothing else was said.
const LOG_CAPACITY: usize = 256;

/// What a new vat shall be like, as it was said.
pub(crate) struct Wishes<'a, 'py> {
    pub(crate) name: Option<Bound<'py, PyAny>>,
    pub(crate) log: bool,
    pub(crate) log_capacity: Option<Bound<'py, PyAny>>,
    pub(crate) inbox_limit: Option<Bound<'py, PyAny>>,
    pub(crate) slow_turn: Option<Seconds>,
    pub(crate) opening: Option<&'a Bound<'py, Opening>>,
}

/// The same, looked at.
pub(crate) struct Settings {
    pub(crate) options: VatOptions,
    pub(crate) log_capacity: usize,
    pub(crate) inbox_limit: Option<usize>,
    pub(crate) slow_turn: Option<Duration>,
}

impl Wishes<'_, '_> {
    pub(crate) fn settle(&self) -> PyResult<Settings> {
        let name = self.name.as_ref().map(|name| text("the name of a vat", name)).transpose()?;
        let log_capacity = match &self.log_capacity {
            Some(wanted) => count(wanted, 1, "log_capacity is a number of events, at least 1")?,
            None => LOG_CAPACITY,
        };
        let options = VatOptions { name, log_capacity: self.log.then_some(log_capacity) };
        let inbox_limit = room(self.inbox_limit.as_ref())?;
        Ok(Settings { options, log_capacity, inbox_limit, slow_turn: patience(self.slow_turn.as_ref())? })
    }
}

/// A number of things; `rule` says which it may be.
fn count(wanted: &Bound<'_, PyAny>, least: usize, rule: &str) -> PyResult<usize> {
    match wanted.extract::<usize>() {
        Ok(number) if number >= least => Ok(number),
        found => {
            let message = format!("{rule}, not {}", wanted.repr()?);
            match found {
                Err(error) if error.is_instance_of::<PyTypeError>(wanted.py()) => {
                    Err(PyTypeError::new_err(message))
                }
                Ok(_) => Err(PyValueError::new_err(message)),
                Err(_) if wanted.lt(0)? => Err(PyValueError::new_err(message)),
                Err(_) => Err(PyValueError::new_err(format!("{message}: no process holds as many"))),
            }
        }
    }
}

/// How many generations a store keeps.
pub(crate) fn generations(wanted: &Bound<'_, PyAny>) -> PyResult<u64> {
    count(wanted, 0, "keep_generations is a number of generations, at least 0").map(|number| number as u64)
}

/// How many messages may wait.
pub(crate) fn room(wanted: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    let rule = "inbox_limit is a number of messages, at least 1, or None for any number";
    wanted.map(|wanted| count(wanted, 1, rule)).transpose()
}

/// A number of seconds, or what is none.
#[derive(FromPyObject)]
pub(crate) enum Seconds {
    Number(f64),
    Other(Py<PyAny>),
}

/// How long a turn may take before it is reported.
pub(crate) fn patience(wanted: Option<&Seconds>) -> PyResult<Option<Duration>> {
    let rule = "slow_turn is a number of seconds, more than 0, or None for any time";
    match wanted {
        None => Ok(None),
        // What no clock can tell is any time.
        Some(Seconds::Number(seconds)) if *seconds > 0.0 => Ok(Duration::try_from_secs_f64(*seconds).ok()),
        Some(Seconds::Number(seconds)) => Err(PyValueError::new_err(format!("{rule}, not {seconds}"))),
        Some(Seconds::Other(other)) => {
            Python::attach(|py| Err(PyTypeError::new_err(format!("{rule}, not {}", other.bind(py).repr()?))))
        }
    }
}
