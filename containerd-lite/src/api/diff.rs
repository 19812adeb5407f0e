//! Diff: layers into mounts, and what two mounts differ in as a layer. No mount
//! is performed: the directories behind it are read and written in overlay's
//! form.

use std::path::PathBuf;

use lite_core::diff::{self, Options};
use lite_core::layers::{self, Limits, Target};
use lite_core::{ContentStore, Descriptor, Kind, Mount, Result, blocking};
use proto::containerd::services::diff::v1 as wire;
use tonic::{Request, Response, Status};

use super::status::to_status;
use super::wire::{descriptor, labels, lease, mount, namespace, to_descriptor};

/// An uncompressed layer.
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// The adapter over content and layers.
#[derive(Clone)]
pub struct DiffApi {
    content: ContentStore,
}

impl DiffApi {
    /// An adapter that takes layers from `content`.
    #[must_use]
    pub fn new(content: ContentStore) -> Self {
        Self { content }
    }
}

#[tonic::async_trait]
impl wire::diff_server::Diff for DiffApi {
    async fn apply(
        &self,
        request: Request<wire::ApplyRequest>,
    ) -> std::result::Result<Response<wire::ApplyResponse>, Status> {
        let (ns, content) = (namespace(&request)?, self.content.clone());
        let wire::ApplyRequest {
            diff,
            mounts,
            sync_fs,
            ..
        } = request.into_inner();
        let layer = descriptor(diff, "diff")?;
        let mounts: Vec<Mount> = mounts.into_iter().map(mount).collect();
        let applied = blocking(move || {
            let (dir, below) = writable(&mounts)?;
            let applied = layers::apply_blob(
                &content,
                &ns,
                &layer,
                Target {
                    dir: &dir,
                    below: &below,
                },
                Limits::default(),
            )?;
            if sync_fs {
                layers::sync(&dir)?;
            }
            Ok(Descriptor {
                media_type: TAR.to_owned(),
                digest: applied.diff_id,
                size: applied.size,
                annotations: layer.annotations,
            })
        });
        Ok(Response::new(wire::ApplyResponse {
            applied: Some(to_descriptor(applied.await.map_err(to_status)?)),
        }))
    }

    async fn diff(
        &self,
        request: Request<wire::DiffRequest>,
    ) -> std::result::Result<Response<wire::DiffResponse>, Status> {
        let (ns, lease) = (namespace(&request)?, lease(&request)?);
        let content = self.content.clone();
        let request = request.into_inner();
        let mut options = Options {
            reference: request.r#ref,
            labels: labels(request.labels),
            latest: request.source_date_epoch.map(|epoch| epoch.seconds),
            ..Options::default()
        };
        if !request.media_type.is_empty() {
            options.media_type = request.media_type;
        }
        let left: Vec<Mount> = request.left.into_iter().map(mount).collect();
        let right: Vec<Mount> = request.right.into_iter().map(mount).collect();
        let made = blocking(move || {
            diff::mounts(&content, &ns, lease.as_deref(), &left, &right, &options)
        });
        Ok(Response::new(wire::DiffResponse {
            diff: Some(to_descriptor(made.await.map_err(to_status)?.blob)),
        }))
    }
}

/// The directory that a write to `mounts` would go to, and the read-only ones
/// below it, nearest first.
fn writable(mounts: &[Mount]) -> Result<(PathBuf, Vec<PathBuf>)> {
    let [mount] = mounts else {
        return Err(Kind::InvalidArgument.error(format!(
            "apply a layer to {} mounts, one is expected: invalid argument",
            mounts.len()
        )));
    };
    let option = |key: &str| {
        mount
            .options
            .iter()
            .find_map(|option| option.strip_prefix(key))
    };
    match mount.kind.as_str() {
        "overlay" => {
            let upper = option("upperdir=").ok_or_else(|| read_only(mount))?;
            let lower = option("lowerdir=").unwrap_or_default();
            Ok((
                PathBuf::from(upper),
                lower
                    .split(':')
                    .filter(|dir| !dir.is_empty())
                    .map(PathBuf::from)
                    .collect(),
            ))
        }
        "bind" | "rbind" if mount.options.iter().any(|option| option == "ro") => {
            Err(read_only(mount))
        }
        "bind" | "rbind" => Ok((PathBuf::from(&mount.source), Vec::new())),
        other => Err(Kind::Unimplemented.error(format!(
            "apply a layer to a mount of type {other:?}: not implemented"
        ))),
    }
}

fn read_only(mount: &Mount) -> lite_core::Error {
    Kind::InvalidArgument.error(format!(
        "apply a layer to a read-only {} mount: invalid argument",
        mount.kind
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writable_directory_is_found() {
        let bind = Mount::bind("/a".as_ref(), true);
        assert_eq!(writable(&[bind]).unwrap(), (PathBuf::from("/a"), vec![]));
        let options = ["index=off", "workdir=/w", "upperdir=/u", "lowerdir=/l1:/l2"]
            .map(str::to_owned)
            .to_vec();
        let overlay = Mount {
            kind: "overlay".to_owned(),
            options,
            ..Mount::default()
        };
        assert_eq!(
            writable(&[overlay]).unwrap(),
            (
                PathBuf::from("/u"),
                vec![PathBuf::from("/l1"), PathBuf::from("/l2")]
            )
        );
        assert_eq!(
            writable(&[Mount::bind("/a".as_ref(), false)])
                .unwrap_err()
                .kind(),
            Kind::InvalidArgument
        );
        assert_eq!(writable(&[]).unwrap_err().kind(), Kind::InvalidArgument);
    }
}
