//! Numbers of all kinds: whole ones of any size, Decimal, Fraction, complex, UUID and range.

use minicbor::data::{Int, Tag, Type};
use minicbor::{Decoder, Encoder};
use num_bigint::{BigInt, Sign};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyComplex, PyComplexMethods, PyInt, PyRange, PyString};

use super::decode::{DecodeError, array_of, malformed, valid};
use super::encode::NotPortable;
use super::{known, tags};

/// As many digits of a Decimal are stored, and as many bytes of a numerator or denominator: to make them of more takes
/// time that grows with the square of it.
const MOST_DIGITS: usize = 100_000;
const MOST_BYTES: u64 = 50_000;

/// Appends a float. There is one form of NaN, so that equal values give equal bytes.
pub(super) fn float(number: f64, out: &mut Vec<u8>) -> Result<(), NotPortable> {
    Encoder::new(out).f64(if number.is_nan() { f64::NAN } else { number })?;
    Ok(())
}

/// Appends a whole number.
pub(super) fn integer(number: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> Result<(), NotPortable> {
    if let Ok(small) = number.extract::<i64>() {
        Encoder::new(out).i64(small)?;
        return Ok(());
    }
    big_integer(number.extract()?, out)
}

fn big_integer(number: BigInt, out: &mut Vec<u8>) -> Result<(), NotPortable> {
    let mut to = Encoder::new(out);
    let (sign, mut magnitude) = number.into_parts();
    let tag = if sign == Sign::Minus {
        magnitude -= 1u32;
        tags::NEGATIVE
    } else {
        tags::POSITIVE
    };
    match (u64::try_from(&magnitude), sign) {
        (Ok(small), Sign::Minus) => to.int(
            Int::try_from(-1 - i128::from(small))
                .map_err(|_| NotPortable::new("an int that could not be written"))?,
        )?,
        (Ok(small), _) => to.u64(small)?,
        (Err(_), _) => to.tag(Tag::new(tag))?.bytes(&magnitude.to_bytes_be())?,
    };
    Ok(())
}

/// Appends a number of one of the classes that are not built in. False if it is of none.
pub(super) fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Result<bool, NotPortable> {
    let py = value.py();
    if let Ok(number) = value.cast_exact::<PyComplex>() {
        Encoder::new(&mut *out).tag(Tag::new(tags::COMPLEX))?.array(2)?;
        float(number.real(), out)?;
        float(number.imag(), out)?;
    } else if known::DECIMAL.is_type_of(value) {
        decimal(value, out)?;
    } else if known::FRACTION.is_type_of(value) {
        Encoder::new(&mut *out).tag(Tag::new(tags::FRACTION))?.array(2)?;
        for part in [intern!(py, "_numerator"), intern!(py, "_denominator")] {
            let before = out.len();
            part_of(value, part, out)?;
            // In front of so many bytes stand a tag and their number.
            if (out.len() - before) as u64 > MOST_BYTES + 4 {
                return Err(NotPortable::new(format!(
                    "a Fraction with a part of more than {MOST_BYTES} bytes, which would take too long to read: keep the \
                     two numbers instead"
                )));
            }
        }
    } else if known::UUID.is_type_of(value) {
        let number: u128 = value.getattr(intern!(py, "int"))?.extract()?;
        Encoder::new(&mut *out).tag(Tag::new(tags::UUID))?.bytes(&number.to_be_bytes())?;
    } else if value.is_exact_instance_of::<PyRange>() {
        Encoder::new(&mut *out).tag(Tag::new(tags::RANGE))?.array(3)?;
        for part in [intern!(py, "start"), intern!(py, "stop"), intern!(py, "step")] {
            part_of(value, part, out)?;
        }
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// A part of a number, which must be an int itself.
fn part_of(
    value: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    out: &mut Vec<u8>,
) -> Result<(), NotPortable> {
    let part = value.getattr(name)?;
    let Ok(part) = part.cast_exact::<PyInt>() else {
        return Err(NotPortable::new(format!(
            "{}, made of numbers that are no plain int ({})",
            crate::behavior::type_name(value),
            crate::behavior::type_name(&part)
        )));
    };
    integer(part, out)
}

/// A Decimal is taken apart from its text, which says all of it: digits, exponent, and which kind of NaN.
fn decimal(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Result<(), NotPortable> {
    let text = value.str()?;
    let text = text.to_str()?;
    let mut to = Encoder::new(&mut *out);
    let Some((negative, digits, exponent)) = scientific(text) else {
        to.tag(Tag::new(tags::SPECIAL_DECIMAL))?.str(text)?;
        return Ok(());
    };
    if digits.len() > MOST_DIGITS {
        return Err(NotPortable::new(format!(
            "a Decimal with more than {MOST_DIGITS} digits, which would take too long to read: keep its text instead"
        )));
    }
    let Some(mantissa) = BigInt::parse_bytes(digits.as_bytes(), 10) else {
        return Err(NotPortable::new("a Decimal that could not be read"));
    };
    if negative && mantissa.sign() == Sign::NoSign {
        to.tag(Tag::new(tags::SPECIAL_DECIMAL))?.str(&format!("-0E{exponent}"))?;
        return Ok(());
    }
    to.tag(Tag::new(tags::DECIMAL))?.array(2)?.i64(exponent)?;
    big_integer(if negative { -mantissa } else { mantissa }, out)
}

/// Whether a number is negative, its digits, and the exponent of the last one; none for what is no finite number.
fn scientific(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    match digits.split_once('.') {
        Some((whole, rest)) => {
            let behind = i64::try_from(rest.len()).ok()?;
            Some((negative, format!("{whole}{rest}"), exponent.checked_sub(behind)?))
        }
        None => Some((negative, digits.to_owned(), exponent)),
    }
}

/// Reads a whole number of any size.
pub(super) fn read_integer(from: &mut Decoder<'_>) -> Result<BigInt, DecodeError> {
    if from.datatype()? != Type::Tag {
        return Ok(BigInt::from(i128::from(from.int()?)));
    }
    let tag = from.tag()?.as_u64();
    read_big(tag, from)
}

/// Reads a whole number that is no longer than what is written of it in a Decimal or a Fraction.
fn read_bounded(from: &mut Decoder<'_>) -> Result<BigInt, DecodeError> {
    let number = read_integer(from)?;
    if number.bits() / 8 > MOST_BYTES {
        return malformed("a number is longer than any that is written");
    }
    Ok(number)
}

/// Reads the bytes of a large whole number.
pub(super) fn read_big(tag: u64, from: &mut Decoder<'_>) -> Result<BigInt, DecodeError> {
    let magnitude = BigInt::from_bytes_be(Sign::Plus, from.bytes()?);
    match tag {
        tags::POSITIVE => Ok(magnitude),
        tags::NEGATIVE => Ok(-magnitude - 1),
        _ => malformed("a number is none"),
    }
}

/// Reads what stands behind a tag of a number; none if the tag is another one.
pub(super) fn read<'py>(
    py: Python<'py>,
    tag: u64,
    from: &mut Decoder<'_>,
) -> Result<Option<Bound<'py, PyAny>>, DecodeError> {
    let value = match tag {
        tags::POSITIVE | tags::NEGATIVE => read_big(tag, from)?.into_pyobject(py)?.into_any(),
        tags::COMPLEX => {
            array_of(from, 2)?;
            PyComplex::from_doubles(py, from.f64()?, from.f64()?).into_any()
        }
        tags::DECIMAL => {
            array_of(from, 2)?;
            let exponent = from.i64()?;
            let text = format!("{}E{exponent}", read_bounded(from)?);
            let number = valid(known::DECIMAL.get(py)?.call1((text,)))?;
            if !number.call_method0(intern!(py, "is_finite"))?.extract::<bool>()? {
                return malformed("a Decimal is too large");
            }
            number
        }
        tags::SPECIAL_DECIMAL => {
            let text = from.str()?;
            if matches!(scientific(text), Some((negative, digits, _)) if !negative || digits != "0") {
                return malformed("a Decimal is not in its form");
            }
            valid(known::DECIMAL.get(py)?.call1((text,)))?
        }
        tags::FRACTION => {
            array_of(from, 2)?;
            let (numerator, denominator) = (read_bounded(from)?, read_bounded(from)?);
            if denominator.sign() != Sign::Plus {
                return malformed("a Fraction has no positive denominator");
            }
            known::FRACTION.get(py)?.call1((numerator, denominator))?
        }
        tags::UUID => {
            let Ok(bytes) = <[u8; 16]>::try_from(from.bytes()?) else {
                return malformed("a UUID has not 16 bytes");
            };
            let named = [("int", u128::from_be_bytes(bytes))].into_py_dict(py)?;
            known::UUID.get(py)?.call((), Some(&named))?
        }
        tags::RANGE => {
            array_of(from, 3)?;
            let parts = (read_integer(from)?, read_integer(from)?, read_integer(from)?);
            valid(py.get_type::<PyRange>().call1(parts))?
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}
