//! Introspection: what the daemon is made of, in the terms of containerd's
//! plugins. Clients look here for the snapshotter they want to use and for the
//! platforms it serves.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use lite_core::{Because as _, Filters, Kind, Platform, blocking};
use proto::containerd::services::introspection::v1 as wire;
use proto::containerd::types;
use tonic::{Request, Response, Status};

use super::status::to_status;
use super::wire::filters;

/// Type and id of everything that containerd would have as a plugin.
const PLUGINS: &[(&str, &str)] = &[
    ("io.containerd.content.v1", "content"),
    ("io.containerd.snapshotter.v1", "overlayfs"),
    ("io.containerd.metadata.v1", "bolt"),
    ("io.containerd.differ.v1", "walking"),
    ("io.containerd.gc.v1", "scheduler"),
    ("io.containerd.event.v1", "exchange"),
    ("io.containerd.runtime.v2", "task"),
    ("io.containerd.streaming.v1", "manager"),
    ("io.containerd.transfer.v1", "local"),
    ("io.containerd.grpc.v1", "containers"),
    ("io.containerd.grpc.v1", "content"),
    ("io.containerd.grpc.v1", "diff"),
    ("io.containerd.grpc.v1", "events"),
    ("io.containerd.grpc.v1", "healthcheck"),
    ("io.containerd.grpc.v1", "images"),
    ("io.containerd.grpc.v1", "introspection"),
    ("io.containerd.grpc.v1", "leases"),
    ("io.containerd.grpc.v1", "namespaces"),
    ("io.containerd.grpc.v1", "snapshots"),
    ("io.containerd.grpc.v1", "streaming"),
    ("io.containerd.grpc.v1", "tasks"),
    ("io.containerd.grpc.v1", "transfer"),
    ("io.containerd.grpc.v1", "version"),
];

/// The adapter; it knows all it says but the server's id.
#[derive(Clone)]
pub struct IntrospectionApi {
    uuid: String,
}

impl IntrospectionApi {
    /// Reads this installation's id from `root`, making it the first time.
    ///
    /// # Errors
    /// Those of the file system.
    pub async fn open(root: &Path) -> Result<Self, lite_core::Error> {
        let file = root.join("uuid");
        let uuid = blocking(move || read_or_make_uuid(&file)).await?;
        Ok(Self { uuid })
    }
}

fn read_or_make_uuid(file: &Path) -> Result<String, lite_core::Error> {
    let known = std::fs::read_to_string(file).unwrap_or_default();
    if known.trim().len() == 36 {
        return Ok(known.trim().to_owned());
    }
    let made = std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .op(|| "make the server's id".to_owned())?;
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, &made)
        .and_then(|()| std::fs::rename(&fresh, file))
        .op(|| format!("write {}", file.display()))?;
    Ok(made.trim().to_owned())
}

/// A plugin by type and id, as filters see it.
struct Named(&'static str, &'static str);

impl lite_core::filter::Fields for Named {
    fn field(&self, path: &[&str]) -> Option<String> {
        match path {
            ["type"] => Some(self.0.to_owned()),
            ["id"] => Some(self.1.to_owned()),
            _ => None,
        }
    }
}

fn to_plugin(kind: &str, id: &str) -> wire::Plugin {
    let platform = Platform::host();
    wire::Plugin {
        r#type: kind.to_owned(),
        id: id.to_owned(),
        platforms: vec![types::Platform {
            os: platform.os,
            architecture: platform.architecture,
            variant: platform.variant,
            ..types::Platform::default()
        }],
        ..wire::Plugin::default()
    }
}

fn plugins(wanted: &Filters) -> Vec<wire::Plugin> {
    PLUGINS
        .iter()
        .filter(|(kind, id)| wanted.accept(&Named(kind, id)))
        .map(|(kind, id)| to_plugin(kind, id))
        .collect()
}

#[tonic::async_trait]
impl wire::introspection_server::Introspection for IntrospectionApi {
    async fn plugins(
        &self,
        request: Request<wire::PluginsRequest>,
    ) -> Result<Response<wire::PluginsResponse>, Status> {
        let wanted = filters(&request.into_inner().filters)?;
        Ok(Response::new(wire::PluginsResponse {
            plugins: plugins(&wanted),
        }))
    }

    async fn server(
        &self,
        _request: Request<()>,
    ) -> Result<Response<wire::ServerResponse>, Status> {
        let pidns = std::fs::metadata("/proc/self/ns/pid")
            .op(|| "look at the pid namespace".to_owned())
            .map_err(to_status)?;
        Ok(Response::new(wire::ServerResponse {
            uuid: self.uuid.clone(),
            pid: u64::from(std::process::id()),
            pidns: pidns.ino(),
            deprecations: Vec::new(),
        }))
    }

    async fn plugin_info(
        &self,
        request: Request<wire::PluginInfoRequest>,
    ) -> Result<Response<wire::PluginInfoResponse>, Status> {
        let request = request.into_inner();
        let found = PLUGINS
            .iter()
            .find(|(kind, id)| *kind == request.r#type && *id == request.id);
        let (kind, id) = found.ok_or_else(|| {
            to_status(Kind::NotFound.error(format!(
                "plugin {}.{}: not found",
                request.r#type, request.id
            )))
        })?;
        Ok(Response::new(wire::PluginInfoResponse {
            plugin: Some(to_plugin(kind, id)),
            extra: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snapshotter_is_found_by_the_filter_that_clients_send() {
        let wanted = filters(&["type==io.containerd.snapshotter.v1, id==overlayfs"]).unwrap();
        let found = plugins(&wanted);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].platforms[0].os, "linux");
    }

    #[test]
    fn the_servers_id_stays() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("uuid");
        let first = read_or_make_uuid(&file).unwrap();
        assert_eq!(read_or_make_uuid(&file).unwrap(), first);
        assert_eq!(first.len(), 36);
    }
}
