//! Dates, times and durations.

use std::fmt::Write;

use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyDate, PyDateAccess, PyDateTime, PyDelta, PyDeltaAccess, PyString, PyTime, PyTimeAccess, PyTuple,
    PyTzInfo, PyTzInfoAccess,
};

use super::decode::{DecodeError, array_of, malformed, valid};
use super::encode::NotPortable;
use super::{known, tags};
use crate::behavior::type_name;
use crate::calls;

const MINUTE: i64 = 60_000_000;
const SECONDS_OF_A_DAY: i64 = 86_400;
/// The number that Python gives to 1970-01-01.
const EPOCH: i64 = 719_163;

/// What a tzinfo says.
#[derive(PartialEq)]
enum Zone {
    None,
    /// A distance from UTC in microseconds, and a name if one was given.
    Fixed(i64, Option<String>),
    /// A name of the IANA's database.
    Named(String),
}

/// Appends a date, a time or a duration. False if it is none.
pub(super) fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Result<bool, NotPortable> {
    if known::DATETIME.is_type_of(value) {
        datetime(value.cast::<PyDateTime>().map_err(PyErr::from)?, out)?;
    } else if known::DATE.is_type_of(value) {
        let day: i64 = value.call_method0(intern!(value.py(), "toordinal"))?.extract()?;
        Encoder::new(out).tag(Tag::new(tags::DATE))?.i64(day - EPOCH)?;
    } else if known::TIME.is_type_of(value) {
        let time = value.cast::<PyTime>().map_err(PyErr::from)?;
        let zone = zone(time.get_tzinfo())?;
        clock(tags::TIME, &time_text(time), &zone, time.get_fold(), out)?;
    } else if known::TIMEDELTA.is_type_of(value) {
        let delta = value.cast::<PyDelta>().map_err(PyErr::from)?;
        let seconds = i64::from(delta.get_days()) * SECONDS_OF_A_DAY + i64::from(delta.get_seconds());
        let rest = delta.get_microseconds();
        let mut to = Encoder::new(out);
        to.tag(Tag::new(tags::DURATION))?.map(if rest == 0 { 1 } else { 2 })?.u8(1)?.i64(seconds)?;
        if rest != 0 {
            to.i8(-6)?.i32(rest)?;
        }
    } else {
        return Ok(false);
    }
    Ok(true)
}

fn datetime(value: &Bound<'_, PyDateTime>, out: &mut Vec<u8>) -> Result<(), NotPortable> {
    let zone = zone(value.get_tzinfo())?;
    let (year, month, day) = (value.get_year(), value.get_month(), value.get_day());
    let mut text = format!("{year:04}-{month:02}-{day:02}T{}", time_text(value));
    match zone {
        Zone::Fixed(distance, None) if distance % MINUTE == 0 && !value.get_fold() => {
            let minutes = (distance / MINUTE).abs();
            let sign = if distance < 0 { '-' } else { '+' };
            let written = match minutes {
                0 => write!(text, "Z"),
                _ => write!(text, "{sign}{:02}:{:02}", minutes / 60, minutes % 60),
            };
            written.map_err(|error| NotPortable::new(error.to_string()))?;
            Encoder::new(out).tag(Tag::new(tags::INSTANT))?.str(&text)?;
            Ok(())
        }
        zone => clock(tags::DATETIME, &text, &zone, value.get_fold(), out),
    }
}

fn time_text(time: &impl PyTimeAccess) -> String {
    let (hour, minute, second) = (time.get_hour(), time.get_minute(), time.get_second());
    match time.get_microsecond() {
        0 => format!("{hour:02}:{minute:02}:{second:02}"),
        part => format!("{hour:02}:{minute:02}:{second:02}.{part:06}"),
    }
}

fn clock(tag: u64, text: &str, zone: &Zone, fold: bool, out: &mut Vec<u8>) -> Result<(), NotPortable> {
    let mut to = Encoder::new(out);
    to.tag(Tag::new(tag))?.array(3)?.str(text)?;
    match zone {
        Zone::None => to.null()?,
        Zone::Named(name) => to.str(name)?,
        Zone::Fixed(distance, None) => to.i64(*distance)?,
        Zone::Fixed(distance, Some(name)) => to.array(2)?.i64(*distance)?.str(name)?,
    };
    to.bool(fold)?;
    Ok(())
}

fn zone(tzinfo: Option<Bound<'_, PyTzInfo>>) -> Result<Zone, NotPortable> {
    let Some(tzinfo) = tzinfo else {
        return Ok(Zone::None);
    };
    let py = tzinfo.py();
    if known::TIMEZONE.is_type_of(&tzinfo) {
        let made_of = calls::call_attribute(tzinfo.as_any(), "__getinitargs__", ())?;
        let made_of = made_of.cast::<PyTuple>().map_err(PyErr::from)?;
        let distance = made_of.get_item(0)?;
        let distance = distance.cast::<PyDelta>().map_err(PyErr::from)?;
        let seconds = i64::from(distance.get_days()) * SECONDS_OF_A_DAY + i64::from(distance.get_seconds());
        let distance = seconds * 1_000_000 + i64::from(distance.get_microseconds());
        let name = if made_of.len() > 1 { Some(zone_name(&made_of.get_item(1)?)?) } else { None };
        return Ok(Zone::Fixed(distance, name));
    }
    if known::ZONE_INFO.is_type_of(&tzinfo) {
        let key = tzinfo.getattr(intern!(py, "key"))?;
        if key.is_none() {
            return Err(NotPortable::new(
                "in a time zone that was read from a file and has no name: give it a key",
            ));
        }
        return Ok(Zone::Named(zone_name(&key)?));
    }
    Err(NotPortable::new(format!(
        "in a time zone of the type {}: use datetime.timezone or zoneinfo.ZoneInfo",
        type_name(&tzinfo)
    )))
}

fn zone_name(name: &Bound<'_, PyAny>) -> Result<String, NotPortable> {
    let name = name.cast_exact::<PyString>().ok().and_then(|name| name.to_str().ok());
    name.map(str::to_owned)
        .ok_or_else(|| NotPortable::new("in a time zone whose name is no plain str, or has lone surrogates"))
}

/// Reads what stands behind a tag of a date, a time or a duration; none if the tag is another one.
pub(super) fn read<'py>(
    py: Python<'py>,
    tag: u64,
    from: &mut Decoder<'_>,
) -> Result<Option<Bound<'py, PyAny>>, DecodeError> {
    let value = match tag {
        tags::INSTANT => {
            let mut text = Text(from.str()?.as_bytes());
            let (date, time) = (text.date()?, text.time()?);
            let distance = text.distance()?;
            text.end()?;
            let zone = read_fixed(py, distance, None)?;
            make_datetime(py, date, time, Some(&zone), false)?
        }
        tags::DATETIME => {
            array_of(from, 3)?;
            let mut text = Text(from.str()?.as_bytes());
            let (date, time) = (text.date()?, text.time()?);
            text.end()?;
            let zone = read_zone(py, from)?;
            make_datetime(py, date, time, zone.as_ref(), from.bool()?)?
        }
        tags::DATE => {
            let day = from.i64()?.saturating_add(EPOCH);
            let class = py.get_type::<PyDate>();
            valid(class.call_method1(intern!(py, "fromordinal"), (day,)))?
        }
        tags::TIME => {
            array_of(from, 3)?;
            let mut text = Text(from.str()?.as_bytes());
            let (hour, minute, second, part) = text.time()?;
            text.end()?;
            let zone = read_zone(py, from)?;
            let made = PyTime::new_with_fold(py, hour, minute, second, part, zone.as_ref(), from.bool()?);
            valid(made)?.into_any()
        }
        tags::DURATION => duration(py, from)?.into_any(),
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn make_datetime<'py>(
    py: Python<'py>,
    (year, month, day): (i32, u8, u8),
    (hour, minute, second, part): (u8, u8, u8, u32),
    zone: Option<&Bound<'py, PyTzInfo>>,
    fold: bool,
) -> Result<Bound<'py, PyAny>, DecodeError> {
    let made = PyDateTime::new_with_fold(py, year, month, day, hour, minute, second, part, zone, fold);
    Ok(valid(made)?.into_any())
}

fn duration<'py>(py: Python<'py>, from: &mut Decoder<'_>) -> Result<Bound<'py, PyDelta>, DecodeError> {
    let parts = from.map()?;
    if !matches!(parts, Some(1 | 2)) || from.u8()? != 1 {
        return malformed("a duration is not in its form");
    }
    let seconds = from.i64()?;
    let rest = match parts {
        Some(2) if from.i64()? != -6 => return malformed("a duration is not in its form"),
        Some(2) => from.u32()?,
        _ => 0,
    };
    let rest = i32::try_from(rest).ok().filter(|rest| *rest < 1_000_000);
    let days = i32::try_from(seconds.div_euclid(SECONDS_OF_A_DAY)).ok();
    let seconds = i32::try_from(seconds.rem_euclid(SECONDS_OF_A_DAY)).ok();
    match (days, seconds, rest) {
        (Some(days), Some(seconds), Some(rest)) => valid(PyDelta::new(py, days, seconds, rest, true)),
        _ => malformed("a duration is too long"),
    }
}

fn read_zone<'py>(
    py: Python<'py>,
    from: &mut Decoder<'_>,
) -> Result<Option<Bound<'py, PyTzInfo>>, DecodeError> {
    let zone = match from.datatype()? {
        Type::Null => {
            from.null()?;
            return Ok(None);
        }
        Type::String => {
            let name = from.str()?;
            let class = known::ZONE_INFO.get(py)?;
            let made = calls::call_with(class, (name,)).map_err(|error| {
                // What is no name of a zone at all is a ValueError.
                if error.is_instance_of::<PyValueError>(py) {
                    return DecodeError::Malformed(error.to_string());
                }
                DecodeError::Missing(format!(
                    "there is no time zone {name:?} here; the package tzdata brings the names of all ({error})"
                ))
            })?;
            made.cast_into::<PyTzInfo>().map_err(PyErr::from)?
        }
        Type::Array => {
            array_of(from, 2)?;
            let distance = from.i64()?;
            read_fixed(py, distance, Some(from.str()?))?
        }
        _ => read_fixed(py, from.i64()?, None)?,
    };
    Ok(Some(zone))
}

fn read_fixed<'py>(
    py: Python<'py>,
    distance: i64,
    name: Option<&str>,
) -> Result<Bound<'py, PyTzInfo>, DecodeError> {
    let day = SECONDS_OF_A_DAY * 1_000_000;
    if distance <= -day || distance >= day {
        return malformed("a time zone is a day away, or more");
    }
    let (seconds, part) = (distance.div_euclid(1_000_000), distance.rem_euclid(1_000_000));
    let (Ok(seconds), Ok(part)) = (i32::try_from(seconds), i32::try_from(part)) else {
        return malformed("a time zone is a day away, or more");
    };
    let distance = PyDelta::new(py, 0, seconds, part, true)?;
    match name {
        None => valid(PyTzInfo::fixed_offset(py, distance)),
        Some(name) => {
            let made = valid(known::TIMEZONE.get(py)?.call1((distance, name)))?;
            Ok(made.cast_into::<PyTzInfo>().map_err(PyErr::from)?)
        }
    }
}

/// What is left to read of a text.
struct Text<'a>(&'a [u8]);

impl Text<'_> {
    fn number(&mut self, digits: usize) -> Result<u32, DecodeError> {
        let Some((these, rest)) = self.0.split_at_checked(digits) else {
            return malformed("a date or time is cut off");
        };
        self.0 = rest;
        let mut number = 0;
        for digit in these {
            if !digit.is_ascii_digit() {
                return malformed("a date or time has something else than a digit");
            }
            number = number * 10 + u32::from(digit - b'0');
        }
        Ok(number)
    }

    /// A number of two digits.
    fn two(&mut self) -> Result<u8, DecodeError> {
        u8::try_from(self.number(2)?).or_else(|_| malformed("a part of a date or time is too large"))
    }

    fn sign(&mut self, sign: u8) -> Result<(), DecodeError> {
        if self.next(sign) { Ok(()) } else { malformed("a date or time is not in its form") }
    }

    /// Whether this comes next; then it is behind us.
    fn next(&mut self, sign: u8) -> bool {
        match self.0.split_first() {
            Some((first, rest)) if *first == sign => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    /// A date and the T after it.
    fn date(&mut self) -> Result<(i32, u8, u8), DecodeError> {
        let year = i32::try_from(self.number(4)?).or_else(|_| malformed("a year is too large"))?;
        self.sign(b'-')?;
        let month = self.two()?;
        self.sign(b'-')?;
        let day = self.two()?;
        self.sign(b'T')?;
        Ok((year, month, day))
    }

    fn time(&mut self) -> Result<(u8, u8, u8, u32), DecodeError> {
        let hour = self.two()?;
        self.sign(b':')?;
        let minute = self.two()?;
        self.sign(b':')?;
        let second = self.two()?;
        let part = if self.next(b'.') { self.number(6)? } else { 0 };
        Ok((hour, minute, second, part))
    }

    /// The distance from UTC in microseconds.
    fn distance(&mut self) -> Result<i64, DecodeError> {
        if self.next(b'Z') {
            return Ok(0);
        }
        let west = self.next(b'-');
        if !west {
            self.sign(b'+')?;
        }
        let hours = i64::from(self.two()?);
        self.sign(b':')?;
        let distance = (hours * 60 + i64::from(self.two()?)) * MINUTE;
        Ok(if west { -distance } else { distance })
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { malformed("something stands after a date or time") }
    }
}
