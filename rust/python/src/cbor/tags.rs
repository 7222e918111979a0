//! The tags that are used: registered ones where there is one that says all of the value, else numbers of our own.

/// Date and time as text (RFC 8949): a datetime with a fixed distance from UTC in whole minutes.
pub(super) const INSTANT: u64 = 0;
/// Unsigned bignum (RFC 8949).
pub(super) const POSITIVE: u64 = 2;
/// Negative bignum (RFC 8949).
pub(super) const NEGATIVE: u64 = 3;
/// Decimal fraction (RFC 8949): exponent and mantissa.
pub(super) const DECIMAL: u64 = 4;
/// Rational number (registered): numerator and denominator.
pub(super) const FRACTION: u64 = 30;
/// Binary UUID (registered): 16 bytes.
pub(super) const UUID: u64 = 37;
/// Days since 1970-01-01 (RFC 8943): a date.
pub(super) const DATE: u64 = 100;
/// Finite set (registered).
pub(super) const SET: u64 = 258;
/// Duration (RFC 9581): a timedelta as `{1: seconds, -6: microseconds}`.
pub(super) const DURATION: u64 = 1002;
/// Complex number (registered): the real and the imaginary part.
pub(super) const COMPLEX: u64 = 43_000;

/// A tuple: an array.
pub(super) const TUPLE: u64 = 28_100;
/// A frozenset: an array.
pub(super) const FROZENSET: u64 = 28_101;
/// A bytearray: a byte string.
pub(super) const BYTEARRAY: u64 = 28_102;
/// A reference to an actor: its index in the record's list of slots.
pub(crate) const REFERENCE: u64 = 28_103;
/// A datetime that tag 0 can't hold: `[text, zone, fold]`. The text is `2026-01-31T12:30:00` or
/// `2026-01-31T12:30:00.000001`, as a clock there shows it. The zone is null for a naive one, the IANA name, the
/// distance from UTC in microseconds, or an array of that distance and a name.
pub(super) const DATETIME: u64 = 28_104;
/// A time: `[text, zone, fold]`, with a text such as `12:30:00`.
pub(super) const TIME: u64 = 28_105;
/// A Decimal that tag 4 can't hold, as text: a NaN, an infinity, a zero with a minus.
pub(super) const SPECIAL_DECIMAL: u64 = 28_106;
/// A range: `[start, stop, step]`.
pub(super) const RANGE: u64 = 28_107;
/// A record with fields: its name in the environment, and a map from the names of its fields to their values.
pub(super) const RECORD: u64 = 28_108;
/// A member of an enum: the enum's name in the environment, and the member's name; for flags that are several
/// members an array of their names.
pub(super) const MEMBER: u64 = 28_109;
/// A Map, a List or a Set: an array of its kind and a reference to its first page.
pub(super) const COLLECTION: u64 = 28_110;
/// A reference to an actor of another vat: its index in the record's list of far references.
pub(super) const FAR: u64 = 28_120;
/// A promise: its index in the list of promises that stands after the fields.
pub(super) const PROMISE: u64 = 28_121;
/// A persistable id: the permanent id of a vat, and a slot there.
pub(super) const IDENTIFIER: u64 = 28_122;
