//! From the roots along the references.

use std::collections::{HashMap, HashSet};

use rusqlite::Connection;

use super::{FLAT, ROOT};
use crate::db::row;
use crate::error::Result;
use crate::image::{GC_CONTENT, GC_SNAPSHOT};
use crate::labels::Labels;

/// Something that can be collected, in its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Node {
    Blob(String, String),
    Snapshot(String, String, String),
}

/// What is reachable.
pub(super) struct Marked(HashSet<Node>);

impl Marked {
    pub(super) fn has_blob(&self, ns: &str, digest: &str) -> bool {
        self.0
            .contains(&Node::Blob(ns.to_owned(), digest.to_owned()))
    }

    pub(super) fn has_snapshot(&self, ns: &str, snapshotter: &str, name: &str) -> bool {
        self.0.contains(&Node::Snapshot(
            ns.to_owned(),
            snapshotter.to_owned(),
            name.to_owned(),
        ))
    }
}

/// The graph and where to begin.
#[derive(Default)]
struct Graph {
    edges: HashMap<Node, Vec<Node>>,
    roots: Vec<Node>,
    /// Kept, but not followed.
    flat: Vec<Node>,
}

pub(super) fn marked(tx: &Connection) -> Result<Marked> {
    let mut graph = Graph::default();
    graph.read_blobs(tx)?;
    graph.read_snapshots(tx)?;
    graph.read_images(tx)?;
    graph.read_containers(tx)?;
    graph.read_leases(tx)?;
    let mut marked = HashSet::new();
    let mut pending = graph.roots;
    while let Some(node) = pending.pop() {
        if let Some(next) = graph.edges.get(&node) {
            pending.extend(next.iter().filter(|next| !marked.contains(*next)).cloned());
        }
        marked.insert(node);
    }
    marked.extend(graph.flat);
    Ok(Marked(marked))
}

impl Graph {
    fn add(&mut self, ns: &str, node: Node, labels: &Labels) {
        if labels.contains_key(ROOT) {
            self.roots.push(node.clone());
        }
        let references = references(ns, labels);
        self.edges.entry(node).or_default().extend(references);
    }

    fn read_blobs(&mut self, tx: &Connection) -> Result<()> {
        let mut query = tx.prepare("SELECT namespace, digest, labels FROM blobs")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let ns: String = row.get("namespace")?;
            self.add(
                &ns,
                Node::Blob(ns.clone(), row.get("digest")?),
                &row::labels(row, "labels")?,
            );
        }
        Ok(())
    }

    fn read_snapshots(&mut self, tx: &Connection) -> Result<()> {
        let mut query = tx.prepare(
            "SELECT s.namespace, s.snapshotter, s.name, s.labels, p.name AS parent_name
             FROM snapshots s LEFT JOIN snapshots p ON p.number = s.parent",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (ns, snapshotter): (String, String) =
                (row.get("namespace")?, row.get("snapshotter")?);
            let node = Node::Snapshot(ns.clone(), snapshotter.clone(), row.get("name")?);
            self.add(&ns, node.clone(), &row::labels(row, "labels")?);
            if let Some(parent) = row.get("parent_name")? {
                self.edges
                    .entry(node)
                    .or_default()
                    .push(Node::Snapshot(ns, snapshotter, parent));
            }
        }
        Ok(())
    }

    fn read_images(&mut self, tx: &Connection) -> Result<()> {
        let mut query = tx.prepare("SELECT namespace, digest, labels FROM images")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let ns: String = row.get("namespace")?;
            self.roots
                .extend(references(&ns, &row::labels(row, "labels")?));
            self.roots.push(Node::Blob(ns, row.get("digest")?));
        }
        Ok(())
    }

    fn read_containers(&mut self, tx: &Connection) -> Result<()> {
        let mut query =
            tx.prepare("SELECT namespace, labels, snapshotter, snapshot_key FROM containers")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let ns: String = row.get("namespace")?;
            self.roots
                .extend(references(&ns, &row::labels(row, "labels")?));
            self.roots.push(Node::Snapshot(
                ns,
                row.get("snapshotter")?,
                row.get("snapshot_key")?,
            ));
        }
        Ok(())
    }

    fn read_leases(&mut self, tx: &Connection) -> Result<()> {
        let mut query = tx.prepare(
            "SELECT r.namespace, r.type, r.id, l.labels, i.digest AS image
             FROM lease_resources r
             JOIN leases l ON l.namespace = r.namespace AND l.id = r.lease
             LEFT JOIN images i ON r.type = 'images' AND i.namespace = r.namespace AND i.name = r.id",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let (ns, kind, id): (String, String, String) =
                (row.get("namespace")?, row.get("type")?, row.get("id")?);
            let image: Option<String> = row.get("image")?;
            let node = match (kind.as_str(), image) {
                ("content", _) => Node::Blob(ns, id),
                ("images", Some(digest)) => Node::Blob(ns, digest),
                (kind, _) => match kind.strip_prefix("snapshots/") {
                    Some(snapshotter) => Node::Snapshot(ns, snapshotter.to_owned(), id),
                    None => continue,
                },
            };
            let flat = row::labels(row, "labels")?.contains_key(FLAT);
            if flat {
                self.flat.push(node)
            } else {
                self.roots.push(node)
            }
        }
        Ok(())
    }
}

/// What labels refer to. A reference's key may go on behind `.` or `/`, to let
/// one thing have several.
fn references(ns: &str, labels: &Labels) -> Vec<Node> {
    let mut found = Vec::new();
    for (key, value) in labels {
        if let Some(rest) = key.strip_prefix(GC_CONTENT)
            && (rest.is_empty() || rest.starts_with(['.', '/']))
        {
            found.push(Node::Blob(ns.to_owned(), value.clone()));
        } else if let Some(rest) = key.strip_prefix(GC_SNAPSHOT) {
            let snapshotter = rest.split('/').next().unwrap_or_default();
            found.push(Node::Snapshot(
                ns.to_owned(),
                snapshotter.to_owned(),
                value.clone(),
            ));
        }
    }
    found
}
