//! Values and their bytes: little-endian, each aligned to its own size (D-Bus specification, "Marshaling").

/// How deep values may lie in one another; the specification's own limit is 64.
const MAX_DEPTH: usize = 16;

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    F64(f64),
    /// `s`
    Str(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `a`, with the type of its elements.
    Array(String, Vec<Value>),
    /// `(…)`
    Struct(Vec<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// Text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Value::Str(text.into())
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) | Value::Path(text) => Some(text),
            Value::Variant(inner) => inner.as_str(),
            _ => None,
        }
    }

    pub(crate) fn signature(&self) -> String {
        match self {
            Value::Byte(_) => "y".to_owned(),
            Value::Bool(_) => "b".to_owned(),
            Value::I32(_) => "i".to_owned(),
            Value::U32(_) => "u".to_owned(),
            Value::I64(_) => "x".to_owned(),
            Value::U64(_) => "t".to_owned(),
            Value::F64(_) => "d".to_owned(),
            Value::Str(_) => "s".to_owned(),
            Value::Path(_) => "o".to_owned(),
            Value::Signature(_) => "g".to_owned(),
            Value::Array(element, _) => format!("a{element}"),
            Value::Struct(fields) => {
                let inner: String = fields.iter().map(Value::signature).collect();
                format!("({inner})")
            }
            Value::Variant(_) => "v".to_owned(),
        }
    }
}

fn alignment(kind: u8) -> usize {
    match kind {
        b'y' | b'g' | b'v' => 1,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 4,
    }
}

#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// `None` if a length does not fit its field.
    pub(super) fn value(&mut self, value: &Value) -> Option<()> {
        let kind = *value.signature().as_bytes().first()?;
        self.align(alignment(kind));
        match value {
            Value::Byte(n) => self.bytes.push(*n),
            Value::Bool(b) => self.bytes.extend(u32::from(*b).to_le_bytes()),
            Value::I32(n) => self.bytes.extend(n.to_le_bytes()),
            Value::U32(n) => self.bytes.extend(n.to_le_bytes()),
            Value::I64(n) => self.bytes.extend(n.to_le_bytes()),
            Value::U64(n) => self.bytes.extend(n.to_le_bytes()),
            Value::F64(n) => self.bytes.extend(n.to_le_bytes()),
            Value::Str(text) | Value::Path(text) => {
                self.bytes
                    .extend(u32::try_from(text.len()).ok()?.to_le_bytes());
                self.bytes.extend(text.as_bytes());
                self.bytes.push(0);
            }
            Value::Signature(text) => {
                self.bytes.push(u8::try_from(text.len()).ok()?);
                self.bytes.extend(text.as_bytes());
                self.bytes.push(0);
            }
            Value::Array(element, items) => {
                let length_at = self.bytes.len();
                self.bytes.extend([0; 4]);
                // The length does not count what aligns the first element.
                self.align(alignment(*element.as_bytes().first()?));
                let start = self.bytes.len();
                for item in items {
                    self.value(item)?;
                }
                let length = u32::try_from(self.bytes.len() - start).ok()?;
                self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
            }
            Value::Struct(fields) => {
                for field in fields {
                    self.value(field)?;
                }
            }
            Value::Variant(inner) => {
                self.value(&Value::Signature(inner.signature()))?;
                self.value(inner)?;
            }
        }
        Some(())
    }
}

/// Reads what a peer has written; each method is `None` for bytes that are no such thing.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            depth: 0,
        }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(super) fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(drop)
    }

    pub(super) fn align(&mut self, to: usize) -> Option<()> {
        self.skip(self.at.next_multiple_of(to) - self.at)
    }

    fn four(&mut self) -> Option<[u8; 4]> {
        self.take(4)?.try_into().ok()
    }

    fn eight(&mut self) -> Option<[u8; 8]> {
        self.take(8)?.try_into().ok()
    }

    /// Values of these types, one after the other.
    pub(super) fn values(&mut self, mut signature: &str) -> Option<Vec<Value>> {
        let mut out = Vec::new();
        while !signature.is_empty() {
            let (first, rest) = split_first(signature)?;
            out.push(self.value(first)?);
            signature = rest;
        }
        Some(out)
    }

    /// A value of this one type. A dictionary's entry is read as a structure of two.
    pub(super) fn value(&mut self, signature: &str) -> Option<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let kind = *signature.as_bytes().first()?;
        self.align(alignment(kind))?;
        let value = match kind {
            b'y' => Value::Byte(*self.take(1)?.first()?),
            b'b' => match u32::from_le_bytes(self.four()?) {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return None,
            },
            b'i' => Value::I32(i32::from_le_bytes(self.four()?)),
            b'u' | b'h' => Value::U32(u32::from_le_bytes(self.four()?)),
            b'x' => Value::I64(i64::from_le_bytes(self.eight()?)),
            b't' => Value::U64(u64::from_le_bytes(self.eight()?)),
            b'd' => Value::F64(f64::from_le_bytes(self.eight()?)),
            b's' | b'o' => {
                let length = usize::try_from(u32::from_le_bytes(self.four()?)).ok()?;
                let text = self.text(length)?;
                if kind == b's' {
                    Value::Str(text)
                } else {
                    Value::Path(text)
                }
            }
            b'g' => {
                let length = usize::from(*self.take(1)?.first()?);
                Value::Signature(self.text(length)?)
            }
            b'a' => self.array(signature.get(1..)?)?,
            b'(' | b'{' => {
                let inner = signature.get(1..signature.len().checked_sub(1)?)?;
                Value::Struct(self.values(inner)?)
            }
            b'v' => {
                let Value::Signature(inner) = self.value("g")? else {
                    return None;
                };
                // Exactly one type.
                let (first, rest) = split_first(&inner)?;
                if !rest.is_empty() {
                    return None;
                }
                Value::Variant(Box::new(self.value(first)?))
            }
            _ => return None,
        };
        self.depth -= 1;
        Some(value)
    }

    fn array(&mut self, element: &str) -> Option<Value> {
        let length = usize::try_from(u32::from_le_bytes(self.four()?)).ok()?;
        self.align(alignment(*element.as_bytes().first()?))?;
        let end = self.at.checked_add(length)?;
        if end > self.bytes.len() {
            return None;
        }
        let mut items = Vec::new();
        while self.at < end {
            let before = self.at;
            items.push(self.value(element)?);
            // An element without bytes would never end.
            if self.at == before {
                return None;
            }
        }
        (self.at == end).then(|| Value::Array(element.to_owned(), items))
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let text = std::str::from_utf8(self.take(length)?).ok()?.to_owned();
        (self.take(1)? == [0]).then_some(text)
    }
}

/// The first complete type of a signature, and the rest.
fn split_first(signature: &str) -> Option<(&str, &str)> {
    let bytes = signature.as_bytes();
    let mut at = 0;
    while bytes.get(at) == Some(&b'a') {
        at += 1;
    }
    let mut open = 0_usize;
    loop {
        match bytes.get(at)? {
            b'(' | b'{' => open += 1,
            b')' | b'}' => open = open.checked_sub(1)?,
            _ => {}
        }
        at += 1;
        if open == 0 {
            return Some((signature.get(..at)?, signature.get(at..)?));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_taken_apart() {
        assert_eq!(split_first("a(sv)u"), Some(("a(sv)", "u")));
        assert_eq!(split_first("aas"), Some(("aas", "")));
        assert_eq!(split_first("(i(xx))s"), Some(("(i(xx))", "s")));
        assert_eq!(split_first("a"), None);
        assert_eq!(split_first("(s"), None);
        assert_eq!(split_first(")"), None);
    }

    #[test]
    fn values_are_aligned_as_the_specification_has_it() {
        let mut writer = Writer::default();
        writer.value(&Value::Byte(1)).unwrap();
        writer.value(&Value::U32(2)).unwrap();
        writer.value(&Value::Str("ab".to_owned())).unwrap();
        writer
            .value(&Value::Array("t".to_owned(), vec![Value::U64(3)]))
            .unwrap();
        assert_eq!(
            writer.bytes,
            [
                1, 0, 0, 0, 2, 0, 0, 0, // byte, number
                2, 0, 0, 0, b'a', b'b', 0, 0, // text and the next's alignment
                8, 0, 0, 0, 0, 0, 0, 0, // length, alignment of the element
                3, 0, 0, 0, 0, 0, 0, 0
            ]
        );
        let mut reader = Reader::new(&writer.bytes);
        assert_eq!(reader.values("yusat").unwrap().len(), 4);
    }

    #[test]
    fn depth_is_bounded() {
        let mut bytes = Vec::new();
        for _ in 0..200 {
            bytes.extend([1, b'v', 0]);
        }
        assert_eq!(Reader::new(&bytes).value("v"), None);
    }
}
