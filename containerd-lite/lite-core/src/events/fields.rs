//! Looks into encoded events for filters like `event.container_id==x`.
//!
//! Only the text fields that containerd's own filters can name are known, by
//! their numbers; the message is walked, not decoded, as most events meet no
//! filter at all and no other part of the exchange needs their types.

use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::values::AnyValue;

/// Where one field of an event is: event type, path, and the field number at
/// each level of nesting.
type Place = (&'static str, &'static [&'static str], &'static [u32]);

const PLACES: &[Place] = &[
    ("containerd.events.TaskCreate", &["container_id"], &[1]),
    ("containerd.events.TaskCreate", &["bundle"], &[2]),
    ("containerd.events.TaskCreate", &["io", "stdin"], &[4, 1]),
    ("containerd.events.TaskCreate", &["io", "stdout"], &[4, 2]),
    ("containerd.events.TaskCreate", &["io", "stderr"], &[4, 3]),
    ("containerd.events.TaskCreate", &["checkpoint"], &[5]),
    ("containerd.events.TaskStart", &["container_id"], &[1]),
    ("containerd.events.TaskDelete", &["container_id"], &[1]),
    ("containerd.events.TaskDelete", &["id"], &[5]),
    ("containerd.events.TaskExit", &["container_id"], &[1]),
    ("containerd.events.TaskExit", &["id"], &[2]),
    ("containerd.events.TaskOOM", &["container_id"], &[1]),
    ("containerd.events.TaskExecAdded", &["container_id"], &[1]),
    ("containerd.events.TaskExecAdded", &["exec_id"], &[2]),
    ("containerd.events.TaskExecStarted", &["container_id"], &[1]),
    ("containerd.events.TaskExecStarted", &["exec_id"], &[2]),
    ("containerd.events.TaskPaused", &["container_id"], &[1]),
    ("containerd.events.TaskResumed", &["container_id"], &[1]),
    (
        "containerd.events.TaskCheckpointed",
        &["container_id"],
        &[1],
    ),
    ("containerd.events.TaskCheckpointed", &["checkpoint"], &[2]),
    ("containerd.events.ContainerCreate", &["id"], &[1]),
    ("containerd.events.ContainerCreate", &["image"], &[2]),
    (
        "containerd.events.ContainerCreate",
        &["runtime", "name"],
        &[3, 1],
    ),
    ("containerd.events.ContainerUpdate", &["id"], &[1]),
    ("containerd.events.ContainerUpdate", &["image"], &[2]),
    ("containerd.events.ContainerUpdate", &["snapshot_key"], &[4]),
    ("containerd.events.ContainerDelete", &["id"], &[1]),
    ("containerd.events.ContentCreate", &["digest"], &[1]),
    ("containerd.events.ContentDelete", &["digest"], &[1]),
    ("containerd.events.NamespaceCreate", &["name"], &[1]),
    ("containerd.events.NamespaceUpdate", &["name"], &[1]),
    ("containerd.events.NamespaceDelete", &["name"], &[1]),
    ("containerd.events.SnapshotPrepare", &["key"], &[1]),
    ("containerd.events.SnapshotPrepare", &["parent"], &[2]),
    ("containerd.events.SnapshotPrepare", &["snapshotter"], &[5]),
    ("containerd.events.SnapshotCommit", &["key"], &[1]),
    ("containerd.events.SnapshotCommit", &["name"], &[2]),
    ("containerd.events.SnapshotCommit", &["snapshotter"], &[5]),
    ("containerd.events.SnapshotRemove", &["key"], &[1]),
    ("containerd.events.SnapshotRemove", &["snapshotter"], &[5]),
    ("containerd.services.images.v1.ImageCreate", &["name"], &[1]),
    ("containerd.services.images.v1.ImageUpdate", &["name"], &[1]),
    ("containerd.services.images.v1.ImageDelete", &["name"], &[1]),
];

/// The text of the event's field at `path`. As in containerd an empty text
/// counts as absent, and so does whatever cannot be decoded.
pub(super) fn text(event: &AnyValue, path: &[&str]) -> Option<String> {
    let name = event.type_url.rsplit('/').next()?;
    let (_, _, numbers) = PLACES
        .iter()
        .find(|(event, fields, _)| *event == name && *fields == path)?;
    let mut bytes = event.value.as_slice();
    for &number in *numbers {
        bytes = submessage(bytes, number)?;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// The last length-delimited field `wanted` of `message`: in protobuf a later
/// value replaces an earlier one.
fn submessage(mut message: &[u8], wanted: u32) -> Option<&[u8]> {
    let mut found = None;
    while message.has_remaining() {
        let (number, wire) = decode_key(&mut message).ok()?;
        if number == wanted && wire == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
            let (value, rest) = message.split_at_checked(length)?;
            found = Some(value);
            message = rest;
        } else {
            skip_field(wire, number, &mut message, DecodeContext::default()).ok()?;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `value` as field `number`, both under 128.
    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(value.len()).unwrap()];
        bytes.extend_from_slice(value);
        bytes
    }

    #[track_caller]
    fn check(type_url: &str, value: Vec<u8>, path: &[&str], wanted: Option<&str>) {
        let event = AnyValue {
            type_url: type_url.to_owned(),
            value,
        };
        assert_eq!(text(&event, path).as_deref(), wanted);
    }

    #[test]
    fn text_fields_are_found_past_others_and_in_nested_messages() {
        let mut exit = field(1, b"c1");
        exit.extend([3 << 3, 42]); // pid, a varint
        exit.extend(field(2, b"exec"));
        check(
            "containerd.events.TaskExit",
            exit.clone(),
            &["container_id"],
            Some("c1"),
        );
        check(
            "types.containerd.io/containerd.events.TaskExit",
            exit.clone(),
            &["id"],
            Some("exec"),
        );
        check("containerd.events.TaskExit", exit, &["pid"], None);
        let create = field(3, &field(1, b"io.containerd.runc.v2"));
        check(
            "containerd.events.ContainerCreate",
            create,
            &["runtime", "name"],
            Some("io.containerd.runc.v2"),
        );
    }

    #[test]
    fn absent_empty_and_damaged_fields_are_none() {
        check(
            "containerd.events.TaskStart",
            Vec::new(),
            &["container_id"],
            None,
        );
        check(
            "containerd.events.TaskStart",
            field(1, b""),
            &["container_id"],
            None,
        );
        check(
            "containerd.events.TaskStart",
            vec![1 << 3 | 2, 9, b'c'],
            &["container_id"],
            None,
        );
        check(
            "containerd.events.TaskStart",
            vec![0xff; 12],
            &["container_id"],
            None,
        );
        check(
            "containerd.events.TaskStart",
            field(1, &[0xff]),
            &["container_id"],
            None,
        );
    }
}
