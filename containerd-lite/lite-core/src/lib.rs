//! Content, metadata, images, snapshots, containers, tasks and events.
