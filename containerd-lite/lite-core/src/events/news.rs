//! What the stores tell of themselves: an event for each record made, changed
//! and removed, encoded as containerd's clients expect it.
//!
//! An event is told once the change is in the database. What a collection
//! removes is told as well: an end is an end, whoever asked for it.

use std::collections::HashMap;

use prost::Message;
use proto::containerd::events as wire;
use proto::containerd::services::images::v1 as images;

use super::Events;
use crate::containers::Container;
use crate::labels::Labels;
use crate::namespace::Namespace;
use crate::values::AnyValue;

impl Events {
    fn tell(&self, ns: &Namespace, topic: &str, name: &str, message: &impl Message) {
        let event = AnyValue {
            type_url: name.to_owned(),
            value: message.encode_to_vec(),
        };
        if let Err(err) = self.publish(ns, topic, event) {
            tracing::warn!(topic, error = %crate::error::chain(&err), "event not published");
        }
    }

    pub(crate) fn image_created(&self, ns: &Namespace, name: &str, labels: &Labels) {
        let event = images::ImageCreate {
            name: name.to_owned(),
            labels: map(labels),
        };
        let kind = "containerd.services.images.v1.ImageCreate";
        self.tell(ns, "/images/create", kind, &event);
    }

    pub(crate) fn image_updated(&self, ns: &Namespace, name: &str, labels: &Labels) {
        let event = images::ImageUpdate {
            name: name.to_owned(),
            labels: map(labels),
        };
        let kind = "containerd.services.images.v1.ImageUpdate";
        self.tell(ns, "/images/update", kind, &event);
    }

    pub(crate) fn image_deleted(&self, ns: &Namespace, name: &str) {
        let event = images::ImageDelete {
            name: name.to_owned(),
        };
        let kind = "containerd.services.images.v1.ImageDelete";
        self.tell(ns, "/images/delete", kind, &event);
    }

    pub(crate) fn container_created(&self, ns: &Namespace, container: &Container) {
        let runtime = wire::container_create::Runtime {
            name: container.runtime.name.clone(),
            options: container.runtime.options.clone().map(any),
        };
        let event = wire::ContainerCreate {
            id: container.id.clone(),
            image: container.image.clone(),
            runtime: Some(runtime),
        };
        let kind = "containerd.events.ContainerCreate";
        self.tell(ns, "/containers/create", kind, &event);
    }

    pub(crate) fn container_updated(&self, ns: &Namespace, container: &Container) {
        let event = wire::ContainerUpdate {
            id: container.id.clone(),
            image: container.image.clone(),
            labels: map(&container.labels),
            snapshot_key: container.snapshot_key.clone(),
        };
        let kind = "containerd.events.ContainerUpdate";
        self.tell(ns, "/containers/update", kind, &event);
    }

    pub(crate) fn container_deleted(&self, ns: &Namespace, id: &str) {
        let event = wire::ContainerDelete { id: id.to_owned() };
        let kind = "containerd.events.ContainerDelete";
        self.tell(ns, "/containers/delete", kind, &event);
    }

    pub(crate) fn content_created(&self, ns: &Namespace, digest: &str, size: u64) {
        let event = wire::ContentCreate {
            digest: digest.to_owned(),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            ..Default::default()
        };
        let kind = "containerd.events.ContentCreate";
        self.tell(ns, "/content/create", kind, &event);
    }

    pub(crate) fn content_deleted(&self, ns: &Namespace, digest: &str) {
        let event = wire::ContentDelete {
            digest: digest.to_owned(),
        };
        let kind = "containerd.events.ContentDelete";
        self.tell(ns, "/content/delete", kind, &event);
    }

    pub(crate) fn namespace_created(&self, ns: &Namespace, labels: &Labels) {
        let event = wire::NamespaceCreate {
            name: ns.to_string(),
            labels: map(labels),
        };
        let kind = "containerd.events.NamespaceCreate";
        self.tell(ns, "/namespaces/create", kind, &event);
    }

    pub(crate) fn namespace_updated(&self, ns: &Namespace, labels: &Labels) {
        let event = wire::NamespaceUpdate {
            name: ns.to_string(),
            labels: map(labels),
        };
        let kind = "containerd.events.NamespaceUpdate";
        self.tell(ns, "/namespaces/update", kind, &event);
    }

    pub(crate) fn namespace_deleted(&self, ns: &Namespace) {
        let event = wire::NamespaceDelete {
            name: ns.to_string(),
        };
        let kind = "containerd.events.NamespaceDelete";
        self.tell(ns, "/namespaces/delete", kind, &event);
    }

    pub(crate) fn snapshot_prepared(
        &self,
        ns: &Namespace,
        snapshotter: &str,
        key: &str,
        parent: &str,
    ) {
        let event = wire::SnapshotPrepare {
            key: key.to_owned(),
            parent: parent.to_owned(),
            snapshotter: snapshotter.to_owned(),
        };
        let kind = "containerd.events.SnapshotPrepare";
        self.tell(ns, "/snapshot/prepare", kind, &event);
    }

    pub(crate) fn snapshot_committed(
        &self,
        ns: &Namespace,
        snapshotter: &str,
        key: &str,
        name: &str,
    ) {
        let event = wire::SnapshotCommit {
            key: key.to_owned(),
            name: name.to_owned(),
            snapshotter: snapshotter.to_owned(),
        };
        let kind = "containerd.events.SnapshotCommit";
        self.tell(ns, "/snapshot/commit", kind, &event);
    }

    pub(crate) fn snapshot_removed(&self, ns: &Namespace, snapshotter: &str, key: &str) {
        let event = wire::SnapshotRemove {
            key: key.to_owned(),
            snapshotter: snapshotter.to_owned(),
        };
        let kind = "containerd.events.SnapshotRemove";
        self.tell(ns, "/snapshot/remove", kind, &event);
    }
}

fn map(labels: &Labels) -> HashMap<String, String> {
    labels
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn any(any: AnyValue) -> prost_types::Any {
    prost_types::Any {
        type_url: any.type_url,
        value: any.value,
    }
}
