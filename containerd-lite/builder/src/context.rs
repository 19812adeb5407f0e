//! A build's context, as far as the daemon knows it.
//!
//! 1. [`Context::open`] lists what `.dockerignore` lets it see; directories that are hidden whole are never asked for.
//! 2. [`Context::select`] finds what a copy names, and asks for the bytes of those files that are not here already: a file whose
//!    size, time and inode are as last time is not sent again.
//!
//! Bytes are kept by their digest in `files/`, what is known of a context in `contexts/`. Both may be removed at any time; the
//! next build asks again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use lite_core::{Because as _, Digest, Kind, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use crate::client::{Client, Listed};
use crate::copy::{Destination, Selected, select};
use crate::ignore::Ignore;
use crate::pattern::Pattern;
use crate::source::{Entry, EntryKind, Listing, Source, below};

/// Directories asked for at a time.
const ASKED_AT_ONCE: usize = 32;

/// What is remembered of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    size: u64,
    modified_ns: i64,
    inode: u64,
    content: String,
}

/// The context of one build.
#[derive(Debug)]
pub struct Context {
    client: Client,
    root: PathBuf,
    id: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    source: Source,
    listed: BTreeMap<String, Listed>,
    known: BTreeMap<String, Known>,
}

/// Files that were selected, with all their bytes here.
#[derive(Debug)]
pub struct Ready {
    /// Where they are.
    pub source: Source,
    /// What goes where.
    pub selected: Vec<Selected>,
    /// A digest of names, kinds, permissions and bytes: what a cached result depends on.
    pub digest: String,
}

impl Context {
    /// Lists the client's context. `id` names it among those of all clients; of one without, nothing
    /// is remembered.
    ///
    /// # Errors
    /// What the client says; those of the store.
    pub async fn open(client: Client, ignore: &Ignore, root: &Path, id: &str) -> Result<Self> {
        let store = store(root);
        fs::create_dir_all(&store).op(|| format!("create {}", store.display()))?;
        let known = remembered(root, id);
        let mut listed = BTreeMap::new();
        let mut asked = FuturesUnordered::new();
        let mut waiting = vec![String::new()];
        loop {
            while asked.len() < ASKED_AT_ONCE
                && let Some(dir) = waiting.pop()
            {
                let client = client.clone();
                asked.push(async move { (client.list(&dir).await, dir) });
            }
            let Some((answer, dir)) = asked.next().await else {
                break;
            };
            for file in answer? {
                check_name(&file.name)?;
                let path = below(&dir, &file.name);
                let is_dir = file.mode & 0o170_000 == 0o040_000;
                if is_dir && !ignore.hides_whole(&path) {
                    waiting.push(path.clone());
                }
                if !ignore.hides(&path) || (is_dir && !ignore.hides_whole(&path)) {
                    listed.insert(path, file);
                }
            }
        }
        let entries = listed
            .iter()
            .map(|(path, file)| (path.clone(), entry(file, known.get(path))))
            .collect();
        let source = Source::Context(Listing { entries, store });
        Ok(Self {
            client,
            root: root.to_owned(),
            id: id.to_owned(),
            state: Mutex::new(State {
                source,
                listed,
                known,
            }),
        })
    }

    /// Selects what `typed` names for `to`, and has every byte of it here.
    ///
    /// # Errors
    /// InvalidArgument for what is not there; what the client says; those of the store.
    pub async fn select(
        &self,
        typed: &[&str],
        to: Destination<'_>,
        exists_as_dir: bool,
        exclude: &[Pattern],
    ) -> Result<Ready> {
        let mut state = self.state.lock().await;
        let invalid = |what: String| Kind::InvalidArgument.error(what);
        let mut selected = Vec::new();
        for typed in typed {
            let found = select(&state.source, typed, to, exists_as_dir).map_err(invalid)?;
            selected.extend(found);
        }
        let Source::Context(listing) = &state.source else {
            return Err(Kind::Internal.error("a context without a listing"));
        };
        let mut wanted = BTreeMap::new();
        for one in &selected {
            let inside = format!("{}/", one.from);
            for (path, entry) in &listing.entries {
                let covered = one.from.is_empty() || *path == one.from || path.starts_with(&inside);
                if covered && !exclude.iter().any(|pattern| pattern.covers(path)) {
                    wanted.insert(path.clone(), entry.clone());
                }
            }
        }
        let store = listing.store.clone();
        for (path, entry) in &mut wanted {
            if let EntryKind::File { content, .. } = &mut entry.kind
                && (content.is_empty() || !store.join(content.as_str()).exists())
            {
                *content = self.fetch(path, &store).await?;
                state.learn(path, content);
            }
        }
        let digest = digest(&selected, &wanted);
        Ok(Ready {
            source: Source::Context(Listing {
                entries: wanted,
                store,
            }),
            selected,
            digest,
        })
    }

    async fn fetch(&self, path: &str, store: &Path) -> Result<String> {
        let context = || format!("receive {path} of the context");
        let mut pieces = self.client.read(path).await?;
        let mut file = tempfile::NamedTempFile::new_in(store).op(context)?;
        let mut hasher = Sha256::new();
        while let Some(piece) = pieces.recv().await {
            let piece = piece?;
            hasher.update(&piece);
            file.write_all(&piece).op(context)?;
        }
        let name = Digest::from_hash(&hasher.finalize()).hex().to_owned();
        file.persist(store.join(&name))
            .map_err(|err| err.error)
            .op(context)?;
        Ok(name)
    }

    /// Writes down what is known, for the next build of the same context.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn remember(&self) -> Result<()> {
        if self.id.is_empty() {
            return Ok(());
        }
        let state = self.state.lock().await;
        let dir = self.root.join("contexts");
        let context = || format!("write {}", dir.display());
        fs::create_dir_all(&dir).op(context)?;
        let known: BTreeMap<&String, &Known> = state
            .known
            .iter()
            .filter(|(path, _)| state.listed.contains_key(*path))
            .collect();
        let mut file = tempfile::NamedTempFile::new_in(&dir).op(context)?;
        serde_json::to_writer(&mut file, &known)
            .map_err(std::io::Error::from)
            .op(context)?;
        file.persist(dir.join(name_of(&self.id)))
            .map_err(|err| err.error)
            .op(context)?;
        Ok(())
    }
}

impl State {
    fn learn(&mut self, path: &str, content: &str) {
        let Some(file) = self.listed.get(path) else {
            return;
        };
        let known = Known {
            size: file.size,
            modified_ns: file.modified_ns,
            inode: file.inode,
            content: content.to_owned(),
        };
        self.known.insert(path.to_owned(), known);
        if let Source::Context(listing) = &mut self.source
            && let Some(Entry {
                kind: EntryKind::File { content: own, .. },
                ..
            }) = listing.entries.get_mut(path)
        {
            content.clone_into(own);
        }
    }
}

fn name_of(id: &str) -> String {
    format!("{}.json", Digest::of(id.as_bytes()).hex())
}

/// Where bytes are kept, below the builder's `root`.
#[must_use]
pub fn store(root: &Path) -> PathBuf {
    root.join("files")
}

/// What an earlier build wrote down; what cannot be read is as good as nothing.
fn remembered(root: &Path, id: &str) -> BTreeMap<String, Known> {
    if id.is_empty() {
        return BTreeMap::new();
    }
    let text = fs::read(root.join("contexts").join(name_of(id))).unwrap_or_default();
    let mut known: BTreeMap<String, Known> = serde_json::from_slice(&text).unwrap_or_default();
    known.retain(|_, file| file.content.bytes().all(|byte| byte.is_ascii_hexdigit()));
    known
}

/// A name must be one, whoever sent it.
fn check_name(name: &str) -> Result<()> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(Kind::InvalidArgument.error(format!("context: {name:?} is no file name")));
    }
    Ok(())
}

fn entry(file: &Listed, known: Option<&Known>) -> Entry {
    let kind = match file.mode & 0o170_000 {
        0o040_000 => EntryKind::Directory,
        0o100_000 => EntryKind::File {
            size: file.size,
            content: known
                .filter(|known| {
                    (known.size, known.modified_ns, known.inode)
                        == (file.size, file.modified_ns, file.inode)
                })
                .map(|known| known.content.clone())
                .unwrap_or_default(),
        },
        0o120_000 => EntryKind::Link {
            target: PathBuf::from(&file.target),
        },
        // Nothing of a client's devices, fifos and sockets travels.
        _ => EntryKind::Socket,
    };
    Entry {
        kind,
        mode: file.mode & 0o7777,
        owner: (0, 0),
    }
}

fn digest(selected: &[Selected], wanted: &BTreeMap<String, Entry>) -> String {
    let mut hasher = Sha256::new();
    for one in selected {
        hasher.update(format!("{:?}\n", (&one.from, &one.to)));
    }
    for (path, entry) in wanted {
        hasher.update(format!("{path:?} {entry:?}\n"));
    }
    Digest::from_hash(&hasher.finalize()).hex().to_owned()
}
