//! Pieces that several services share: maps, times, descriptors, mounts, and
//! what a call's metadata says.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use lite_core::{
    AnyValue, Descriptor, Digest, Expected, Filters, Kind, LabelUpdate, Labels, Mount, Namespace,
};
use proto::containerd::types;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::status::to_status;

/// The tenant a call is for.
///
/// # Errors
/// FailedPrecondition if the call names none, as in containerd;
/// InvalidArgument if it is malformed.
pub(crate) fn namespace<T>(request: &Request<T>) -> Result<Namespace, Status> {
    let name = header(request.metadata(), "containerd-namespace")?
        .ok_or_else(|| Status::failed_precondition("namespace is required: failed precondition"))?;
    Namespace::parse(name).map_err(to_status)
}

/// The lease that what the call creates belongs to.
///
/// # Errors
/// InvalidArgument if it is not text.
pub(crate) fn lease<T>(request: &Request<T>) -> Result<Option<String>, Status> {
    Ok(header(request.metadata(), "containerd-lease")?.map(str::to_owned))
}

fn header<'a>(metadata: &'a MetadataMap, key: &str) -> Result<Option<&'a str>, Status> {
    let value = metadata.get(key).map(|value| value.to_str());
    let value = value
        .transpose()
        .map_err(|_| Status::invalid_argument(format!("metadata {key}: invalid argument")))?;
    Ok(value.filter(|value| !value.is_empty()))
}

pub(crate) fn filters<S: AsRef<str>>(filters: &[S]) -> Result<Filters, Status> {
    Filters::parse(filters).map_err(to_status)
}

pub(crate) fn digest(text: &str) -> Result<Digest, Status> {
    Digest::parse(text).map_err(to_status)
}

pub(crate) fn labels(map: HashMap<String, String>) -> Labels {
    map.into_iter().collect()
}

pub(crate) fn to_map(labels: Labels) -> HashMap<String, String> {
    labels.into_iter().collect()
}

/// The paths of a field mask; none if it is absent.
pub(crate) fn paths(mask: Option<prost_types::FieldMask>) -> Vec<String> {
    mask.map(|mask| mask.paths).unwrap_or_default()
}

/// A field mask that may name labels only.
pub(crate) fn label_update(
    mask: Option<prost_types::FieldMask>,
    subject: &str,
) -> Result<LabelUpdate, Status> {
    LabelUpdate::from_paths(&paths(mask), subject).map_err(to_status)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "every message has times as optional fields"
)]
pub(crate) fn timestamp(time: SystemTime) -> Option<prost_types::Timestamp> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(prost_types::Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    })
}

pub(crate) fn any(any: prost_types::Any) -> AnyValue {
    AnyValue {
        type_url: any.type_url,
        value: any.value,
    }
}

pub(crate) fn to_any(any: AnyValue) -> prost_types::Any {
    prost_types::Any {
        type_url: any.type_url,
        value: any.value,
    }
}

/// A size or offset; the wire has them signed.
pub(crate) fn unsigned(value: i64, what: &str) -> Result<u64, Status> {
    u64::try_from(value)
        .map_err(|_| Status::out_of_range(format!("{what} {value} is negative: out of range")))
}

pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What an ingest is expected to become: empty and 0 say nothing.
pub(crate) fn expected(digest_text: &str, total: i64) -> Result<Expected, Status> {
    let digest = if digest_text.is_empty() {
        None
    } else {
        Some(digest(digest_text)?)
    };
    Ok(Expected {
        digest,
        size: u64::try_from(total).ok().filter(|total| *total > 0),
    })
}

pub(crate) fn descriptor(
    wire: Option<types::Descriptor>,
    what: &str,
) -> Result<Descriptor, Status> {
    let wire = wire
        .ok_or_else(|| Status::invalid_argument(format!("{what} is required: invalid argument")))?;
    Ok(Descriptor {
        media_type: wire.media_type,
        digest: digest(&wire.digest)?,
        size: u64::try_from(wire.size).map_err(|_| {
            to_status(
                Kind::InvalidArgument
                    .error(format!("{what}: size {}: invalid argument", wire.size)),
            )
        })?,
        annotations: labels(wire.annotations),
    })
}

pub(crate) fn to_descriptor(descriptor: Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type,
        digest: descriptor.digest.to_string(),
        size: signed(descriptor.size),
        annotations: to_map(descriptor.annotations),
    }
}

pub(crate) fn mount(wire: types::Mount) -> Mount {
    Mount {
        kind: wire.r#type,
        source: wire.source,
        target: wire.target,
        options: wire.options,
    }
}

pub(crate) fn to_mount(mount: Mount) -> types::Mount {
    types::Mount {
        r#type: mount.kind,
        source: mount.source,
        target: mount.target,
        options: mount.options,
    }
}
