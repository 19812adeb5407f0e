//! One message: a header that says what and for whom, and a body of values.

use super::wire::{Reader, Value, Writer};

/// The part of a header that has the same length in each message.
pub(super) const FIXED: usize = 16;

/// What a peer may send at once. systemd's answers have some hundred bytes.
const MAX_BYTES: usize = 1 << 20;

/// Who is called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) destination: &'static str,
    pub(crate) path: &'static str,
    pub(crate) interface: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Call,
    Return,
    Error,
    Signal,
    /// A kind of a later version, to be passed over.
    Other,
}

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) member: String,
    /// The name of an error, as in `org.freedesktop.systemd1.UnitExists`.
    pub(crate) error: String,
    /// The serial number of the call that this answers.
    pub(crate) reply_to: u32,
    pub(crate) body: Vec<Value>,
    target: Option<Target>,
}

impl Message {
    pub(crate) fn call(target: Target, member: &str, body: Vec<Value>) -> Self {
        Self {
            kind: Kind::Call,
            member: member.to_owned(),
            error: String::new(),
            reply_to: 0,
            body,
            target: Some(target),
        }
    }

    /// The bytes of a call; `None` if they are too many.
    pub(super) fn encode(&self, serial: u32) -> Option<Vec<u8>> {
        let mut body = Writer::default();
        for value in &self.body {
            body.value(value)?;
        }
        let body = body.bytes;
        let signature: String = self.body.iter().map(Value::signature).collect();
        let field = |code: u8, value: Value| {
            Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))])
        };
        let text = |text: &str| Value::Str(text.to_owned());
        let target = self.target?;
        let mut fields = vec![
            field(1, Value::Path(target.path.to_owned())),
            field(2, text(target.interface)),
            field(3, text(&self.member)),
            field(6, text(target.destination)),
        ];
        if !signature.is_empty() {
            fields.push(field(8, Value::Signature(signature)));
        }
        let mut out = Writer::default();
        out.bytes.extend([b'l', 1, 0, 1]);
        out.value(&Value::U32(u32::try_from(body.len()).ok()?))?;
        out.value(&Value::U32(serial))?;
        out.value(&Value::Array("(yv)".to_owned(), fields))?;
        out.align(8);
        out.bytes.extend(body);
        (out.bytes.len() <= MAX_BYTES).then_some(out.bytes)
    }

    /// The message of these bytes, which are as many as its header says.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let kind = match *bytes.get(1)? {
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => Kind::Other,
        };
        reader.skip(FIXED - 4)?;
        let Value::Array(_, fields) = reader.value("a(yv)")? else {
            return None;
        };
        let mut message = Self {
            kind,
            member: String::new(),
            error: String::new(),
            reply_to: 0,
            body: Vec::new(),
            target: None,
        };
        let mut signature = String::new();
        for field in fields {
            let Value::Struct(field) = field else {
                return None;
            };
            let [Value::Byte(code), Value::Variant(value)] = field.as_slice() else {
                return None;
            };
            match (code, value.as_ref()) {
                (3, Value::Str(text)) => message.member.clone_from(text),
                (4, Value::Str(text)) => message.error.clone_from(text),
                (5, Value::U32(serial)) => message.reply_to = *serial,
                (8, Value::Signature(text)) => signature.clone_from(text),
                _ => {}
            }
        }
        reader.align(8)?;
        message.body = reader.values(&signature)?;
        Some(message)
    }
}

/// How many bytes follow the fixed part of a header, or `None` for what is no message or too long a one.
pub(super) fn length_of_rest(fixed: &[u8; FIXED]) -> Option<usize> {
    let number = |at: usize| {
        let bytes = [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    // A bus passes on what peers of this machine wrote, in its order of bytes.
    if fixed[0] != b'l' || fixed[3] != 1 {
        return None;
    }
    let (body, fields) = (number(4)?, number(12)?);
    let total = fields.checked_next_multiple_of(8)?.checked_add(body)?;
    (total <= MAX_BYTES).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARGET: Target = Target {
        destination: "a.b",
        path: "/a",
        interface: "a.b.C",
    };

    fn body() -> Vec<Value> {
        vec![
            Value::Str("x.scope".to_owned()),
            Value::Array(
                "(sv)".to_owned(),
                vec![Value::Struct(vec![
                    Value::Str("PIDs".to_owned()),
                    Value::Variant(Box::new(Value::Array("u".to_owned(), vec![Value::U32(7)]))),
                ])],
            ),
            Value::Bool(true),
            Value::U64(u64::MAX),
        ]
    }

    #[test]
    fn a_message_is_read_back() {
        let bytes = Message::call(TARGET, "Do", body()).encode(3).unwrap();
        let fixed: [u8; FIXED] = bytes[..FIXED].try_into().unwrap();
        assert_eq!(length_of_rest(&fixed), Some(bytes.len() - FIXED));
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.kind, Kind::Call);
        assert_eq!(message.member, "Do");
        assert_eq!(message.body, body());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _any = Message::decode(&bytes);
        }

        #[test]
        fn a_changed_message_is_read_or_refused(at in 0_usize..200, byte in any::<u8>()) {
            let mut bytes = Message::call(TARGET, "Do", body()).encode(3).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _any = Message::decode(&bytes);
        }
    }
}
