//! The codec by itself: what is written is read back, bytes are what RFC 8949 says, and any bytes may come.
#![allow(clippy::expect_used)]

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{DecodeError, MAX_DEPTH, NoActors, NoRefs, decode_all, encode};

fn with_python(test: impl for<'py> FnOnce(Python<'py>)) {
    Python::initialize();
    Python::attach(test);
}

fn value<'py>(py: Python<'py>, code: &str) -> Bound<'py, PyAny> {
    let code = std::ffi::CString::new(code).expect("no zero in it");
    py.eval(&code, Some(&PyDict::new(py)), None).expect("the value can be made")
}

fn bytes(py: Python<'_>, code: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&value(py, code), &mut NoRefs, &mut out).expect("the value can be stored");
    out
}

fn refusal(py: Python<'_>, code: &str) -> (String, String) {
    let error = encode(&value(py, code), &mut NoRefs, &mut Vec::new()).expect_err("it can't be stored");
    let mut refused = None;
    error.into_error(|reason, path| {
        refused = Some((path, reason.to_owned()));
        pyo3::exceptions::PyValueError::new_err(())
    });
    refused.expect("it says why")
}

fn repr(py: Python<'_>, stored: &[u8]) -> String {
    let value = decode_all(py, stored, &NoActors).expect("it can be read");
    value.repr().expect("it has a repr").to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_written_is_read_back_with_the_types_that_it_had() {
    with_python(|py| {
        for code in [
            "None",
            "True",
            "0",
            "-1",
            "2**63 - 1",
            "-2**63",
            "2**64 - 1",
            "-2**64",
            "2**64",
            "-2**64 - 1",
            "10**50",
            "-(10**50)",
            "1.5",
            "-0.0",
            "float('inf')",
            "float('nan')",
            "'größe 🗃'",
            "b'\\x00\\xff'",
            "bytearray(b'xyz')",
            "[1, [2, []]]",
            "(1, (2, ()))",
            "{'a': 1, 2: 'b', (3, 'c'): {}}",
            "{1}",
            "set()",
            "frozenset({'x'})",
            "1.5j",
            "range(1, 10**20, 3)",
            "__import__('datetime').date(2026, 1, 31)",
            "__import__('datetime').timedelta(-1, 5, 7)",
            "__import__('datetime').time(1, 2, 3, 4, fold=1)",
            "__import__('datetime').datetime(2026, 1, 31, 1, 2, 3)",
            "__import__('datetime').datetime(2026, 1, 31, tzinfo=__import__('datetime').timezone.utc)",
            "__import__('decimal').Decimal('-1.50E-7')",
            "__import__('decimal').Decimal('sNaN12')",
            "__import__('fractions').Fraction(-10**30, 7)",
            "__import__('uuid').UUID(int=5)",
        ] {
            let expected = value(py, code).repr().expect("it has a repr").to_string();
            assert_eq!(repr(py, &bytes(py, code)), expected, "{code}");
        }
    });
}

#[test]
fn plain_values_are_what_the_standard_says() {
    with_python(|py| {
        // The examples of RFC 8949, appendix A.
        for (code, expected) in [
            ("0", "00"),
            ("23", "17"),
            ("24", "1818"),
            ("1000000000000", "1b000000e8d4a51000"),
            ("18446744073709551615", "1bffffffffffffffff"),
            ("18446744073709551616", "c249010000000000000000"),
            ("-18446744073709551616", "3bffffffffffffffff"),
            ("-18446744073709551617", "c349010000000000000000"),
            ("-1000", "3903e7"),
            ("1.1", "fb3ff199999999999a"),
            ("False", "f4"),
            ("None", "f6"),
            ("b'\\x01\\x02\\x03\\x04'", "4401020304"),
            ("'IETF'", "6449455446"),
            ("[1, [2, 3], [4, 5]]", "8301820203820405"),
            ("{'a': 1, 'b': [2, 3]}", "a26161016162820203"),
        ] {
            assert_eq!(hex(&bytes(py, code)), expected, "{code}");
        }
    });
}

#[test]
fn equal_sets_give_equal_bytes_in_whichever_order_they_were_made() {
    with_python(|py| {
        let one = bytes(py, "set(range(1000))");
        let other = bytes(py, "set(reversed(range(1000)))");
        assert_eq!(one, other);
    });
}

#[test]
fn what_cannot_be_stored_is_refused_with_the_way_to_it() {
    with_python(|py| {
        let code = "{'items': [0, 1, {'the file': object()}]}";
        let (path, reason) = refusal(py, code);
        assert_eq!(path, ".items[2][\"the file\"]");
        assert!(reason.contains("object"), "{reason}");
        let (path, reason) = refusal(py, "['\\ud800']");
        assert_eq!(path, "[0]");
        assert!(reason.contains("surrogates"), "{reason}");
        let (_, reason) = refusal(py, "type('Sub', (int,), {})(3)");
        assert!(reason.contains("subclass"), "{reason}");
    });
}

#[test]
fn what_contains_itself_is_refused_where_it_does() {
    with_python(|py| {
        let (path, reason) = refusal(py, "(lambda v: v.append([v]) or v)([0])");
        assert_eq!(path, "[1][0]");
        assert!(reason.contains("contains itself"), "{reason}");
    });
}

#[test]
fn nesting_has_a_limit_that_is_named() {
    with_python(|py| {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        // Python's own parser has a limit too, so the value is made step by step.
        let made =
            |depth: usize| format!("__import__('functools').reduce(lambda v, _: [v], range({depth}), [])");
        assert_eq!(repr(py, &bytes(py, &made(MAX_DEPTH - 1))), nested(MAX_DEPTH));
        let (_, reason) = refusal(py, &made(MAX_DEPTH));
        assert!(reason.contains(&MAX_DEPTH.to_string()), "{reason}");
    });
}

#[test]
fn bytes_of_any_kind_are_read_or_refused() {
    with_python(|py| {
        for code in [
            "{'a': [1, 2.5, (b'x', {3}, 10**30)], 'b': None}",
            "(lambda d: [d.date(1, 2, 3), d.timedelta(1, 2, 3), d.time(1, tzinfo=d.timezone(d.timedelta(0, 1), 'x'))])\
             (__import__('datetime'))",
            "(lambda d: [d.datetime(1, 2, 3, fold=1), d.datetime(1, 2, 3, tzinfo=d.timezone.utc)])\
             (__import__('datetime'))",
            "(lambda d: [d('1.5'), d('-0'), d('NaN1')])(__import__('decimal').Decimal)",
            "[__import__('fractions').Fraction(1, 10**30), 2j, range(3), __import__('uuid').UUID(int=5)]",
        ] {
            let whole = bytes(py, code);
            for end in 0..whole.len() {
                let cut = decode_all(py, &whole[..end], &NoActors);
                assert!(matches!(cut, Err(DecodeError::Malformed(_))), "the first {end} bytes were read");
            }
            for at in 0..whole.len() {
                for bit in 0..8 {
                    let mut damaged = whole.clone();
                    damaged[at] ^= 1 << bit;
                    // Either is fine: the checksum is a matter of the record. It must end, and without a panic.
                    let _ = decode_all(py, &damaged, &NoActors);
                }
            }
        }
    });
}

#[test]
fn lengths_beyond_the_end_reserve_nothing() {
    with_python(|py| {
        for start in [0x9b_u8, 0xbb, 0x5b, 0x7b] {
            let mut claim = vec![start];
            claim.extend(u64::MAX.to_be_bytes());
            assert!(decode_all(py, &claim, &NoActors).is_err(), "{start:x}");
        }
    });
}

#[test]
fn what_stands_after_a_value_is_refused() {
    with_python(|py| {
        let mut two = bytes(py, "1");
        two.extend(bytes(py, "2"));
        assert!(decode_all(py, &two, &NoActors).is_err());
    });
}

#[test]
fn a_collection_that_is_none_is_refused() {
    with_python(|py| {
        // The tag for collections, then: a number, an array that is too short, one whose root is a number.
        for rest in [&[0x01_u8][..], &[0x81, 0x01], &[0x82, 0x01, 0x01], &[0x82, 0x63]] {
            let mut stored = vec![0xd9, 0x6d, 0xc8];
            stored.extend(rest);
            let read = decode_all(py, &stored, &NoActors);
            assert!(matches!(read, Err(DecodeError::Malformed(_))), "{rest:x?}");
        }
    });
}
