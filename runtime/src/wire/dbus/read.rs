//! Values of any type, as they appear in answers (D-Bus Specification, "Marshaling").

use std::collections::BTreeMap;

use super::{DbusMessage, DbusValue, In};

/// No type is nested this deep (the specification allows 64).
const DEEPEST: usize = 16;

impl DbusMessage {
    /// The answer to `GetAll` of org.freedesktop.DBus.Properties: names and values.
    pub fn properties(&self) -> Option<BTreeMap<String, DbusValue>> {
        if self.signature != "a{sv}" {
            return None;
        }
        let mut input = In { bytes: &self.bytes, at: self.body };
        let DbusValue::Array(_, entries) = input.value(b"a{sv}", &mut 0, 0)? else { return None };
        let pair = |entry| match entry {
            DbusValue::Struct(pair) => match <[DbusValue; 2]>::try_from(pair) {
                Ok([DbusValue::Text(name), value]) => Some((name, value)),
                _ => None,
            },
            _ => None,
        };
        entries.into_iter().map(pair).collect()
    }
}

impl In<'_> {
    fn u64(&mut self) -> Option<u64> {
        self.align(8)?;
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn u16(&mut self) -> Option<u16> {
        self.align(2)?;
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    /// The value of the type at `at` in `kinds`, which is moved past it.
    fn value(&mut self, kinds: &[u8], at: &mut usize, depth: usize) -> Option<DbusValue> {
        if depth > DEEPEST {
            return None;
        }
        let kind = *kinds.get(*at)?;
        *at += 1;
        Some(match kind {
            b'y' => DbusValue::Byte(self.byte()?),
            b'b' => DbusValue::Bool(self.u32()? != 0),
            b'n' | b'q' => DbusValue::U16(kind == b'n', self.u16()?),
            b'i' => DbusValue::I32(self.u32()? as i32),
            // A file descriptor is the index of one that was sent alongside.
            b'u' | b'h' => DbusValue::U32(self.u32()?),
            b'x' => DbusValue::I64(self.u64()? as i64),
            b't' => DbusValue::U64(self.u64()?),
            b'd' => DbusValue::F64(f64::from_bits(self.u64()?)),
            b's' | b'o' => DbusValue::Text(self.text()?),
            b'g' => DbusValue::Text(self.signature()?),
            b'v' => {
                let inner = self.signature()?;
                self.value(inner.as_bytes(), &mut 0, depth + 1)?
            }
            b'(' | b'{' => {
                self.align(8)?;
                let mut items = Vec::new();
                while !matches!(kinds.get(*at)?, b')' | b'}') {
                    items.push(self.value(kinds, at, depth + 1)?);
                }
                *at += 1;
                DbusValue::Struct(items)
            }
            b'a' => {
                let element = &kinds[*at..];
                let element = &element[..length_of_first(element, depth)?];
                *at += element.len();
                let length = self.u32()? as usize;
                self.align(alignment(element[0]))?;
                let end = self.at.checked_add(length)?;
                let mut items = Vec::new();
                while self.at < end {
                    items.push(self.value(element, &mut 0, depth + 1)?);
                }
                if self.at != end {
                    return None;
                }
                DbusValue::Array(String::from_utf8(element.to_vec()).ok()?, items)
            }
            _ => return None,
        })
    }
}

/// How long the first complete type in `kinds` is.
fn length_of_first(kinds: &[u8], depth: usize) -> Option<usize> {
    if depth > DEEPEST {
        return None;
    }
    Some(match kinds.first()? {
        b'a' => 1 + length_of_first(&kinds[1..], depth + 1)?,
        b'(' | b'{' => {
            let mut at = 1;
            while !matches!(kinds.get(at)?, b')' | b'}') {
                at += length_of_first(&kinds[at..], depth + 1)?;
            }
            at + 1
        }
        _ => 1,
    })
}

pub(super) fn alignment(kind: u8) -> usize {
    match kind {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 4,
    }
}
