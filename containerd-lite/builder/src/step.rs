//! One step: what it depends on, its cached result, or its execution on a new snapshot.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lite_core::{Because as _, Kind, Labels, Mount, Result, blocking};
use tokio::sync::{OnceCell, watch};

use crate::build::{Hub, Run, Stage};
use crate::cache::{Outcome, key};
use crate::context;
use crate::copy::{self, Destination, Root, Rules, Selected};
use crate::layer::{self, Written};
use crate::mounts::Kind as MountKind;
use crate::news::News;
use crate::ops::{CopyOp, CopySource, Op, RunOp};
use crate::pattern::Pattern;
use crate::remote::{self, Fetched};
use crate::source::Source;
use crate::stages::Base;
use crate::{SNAPSHOTTER, rootfs, run_step, stage};

/// A step to do.
pub(crate) struct Step<'a> {
    pub(crate) run: &'a Arc<Run>,
    /// The stage it belongs to.
    pub(crate) stage: usize,
    /// The stages before that.
    pub(crate) others: &'a [Option<Stage>],
    pub(crate) stopped: watch::Receiver<bool>,
    pub(crate) op: &'a Op,
    /// The chainID below; empty over nothing.
    pub(crate) parent: &'a str,
    pub(crate) title: String,
    /// What its addresses led to.
    pub(crate) fetched: OnceCell<Vec<Fetched>>,
}

impl Step<'_> {
    /// Does it, or finds that it was done.
    ///
    /// # Errors
    /// What the step says; Cancelled.
    pub(crate) async fn done(&self) -> Result<Outcome> {
        let number = self.run.next_step();
        let name = self.title.clone();
        self.run
            .teller
            .tell(News::Begun { step: number, name })
            .await;
        let began = Instant::now();
        let outcome = self.cached_or_new(number).await;
        let news = match &outcome {
            Ok((_, true)) => News::Cached { step: number },
            Ok((_, false)) => News::Done {
                step: number,
                took: began.elapsed(),
            },
            Err(_) => News::Failed { step: number },
        };
        self.run.teller.tell(news).await;
        outcome.map(|(outcome, _)| outcome)
    }

    /// The result, and whether it was there already.
    async fn cached_or_new(&self, number: u32) -> Result<(Outcome, bool)> {
        let key = self.key().await?;
        let hub = &self.run.builder.shared;
        // Of two builds with the same step, the second waits here and finds the first one's result.
        let lock = hub.lock(&key);
        let _only_one = lock.lock().await;
        if self.may_use_cache() {
            let (cache, key) = (hub.cache.clone(), key.clone());
            let found = blocking(move || Ok(cache.get(&key))).await?;
            if let Some(outcome) = found {
                return Ok((outcome, true));
            }
        }
        let outcome = self.execute(number).await?;
        let (cache, kept) = (hub.cache.clone(), outcome.clone());
        blocking(move || cache.put(&key, &kept)).await?;
        Ok((outcome, false))
    }

    fn may_use_cache(&self) -> bool {
        let request = &self.run.request;
        let title = self.run.graph.stages[self.stage].title(self.stage);
        !request.no_cache && !request.no_cache_stages.contains(&title)
    }

    /// Everything the result depends on.
    async fn key(&self) -> Result<String> {
        let time = self.run.request.time_s.to_string();
        let mut sources = Vec::new();
        for from in self.op.sources() {
            sources.push(self.source_chain(from).await?);
        }
        let sources = sources.join(" ");
        Ok(match self.op {
            Op::MakeDir { path } => key(&["dir", self.parent, &time, path]),
            Op::Copy(op) => {
                let mut content = match &op.from {
                    Some(_) => sources,
                    None => self.context_digest(op).await?,
                };
                for fetched in self.fetched(op).await? {
                    content.push_str(&fetched.key());
                }
                key(&["copy", self.parent, &time, &format!("{op:?}"), &content])
            }
            Op::Run(op) => {
                let mut keyed = op.clone();
                keyed.unkeyed_env.clear();
                let asked = &self.run.request;
                let mut network = format!("{:?}", asked.network);
                if !asked.extra_hosts.is_empty() {
                    network.push_str(&asked.extra_hosts.join(" "));
                }
                let mut context = String::new();
                if needs_context(op) {
                    context = self.whole_context().await?;
                }
                key(&[
                    "run",
                    self.parent,
                    &time,
                    &format!("{keyed:?}"),
                    &network,
                    &sources,
                    &context,
                ])
            }
        })
    }

    /// The chainID of a stage or image that files come from.
    pub(crate) async fn source_chain(&self, from: &str) -> Result<String> {
        let base = self.run.graph.source(self.stage, from);
        if base == Base::Scratch {
            return Err(Kind::InvalidArgument.error("scratch has no files"));
        }
        let title = format!("[{from}] load");
        let staged = stage::base(self.run, &base, None, self.others, title).await?;
        Ok(staged.chain().to_owned())
    }

    async fn context_digest(&self, op: &CopyOp) -> Result<String> {
        let typed = paths_of(op);
        if typed.is_empty() {
            return Ok(String::new());
        }
        let context = self.run.context().await?;
        let to = destination(op);
        // Whether the destination is a directory depends on the parent alone, which is in the key.
        let ready = context.select(&typed, to, false, &exclusions(op)?).await?;
        Ok(ready.digest)
    }

    /// The files that stand at the step's addresses, fetched once.
    async fn fetched(&self, op: &CopyOp) -> Result<&[Fetched]> {
        let fetch = || async {
            let mut all = Vec::new();
            for source in &op.sources {
                if let CopySource::Address(address) = source {
                    let hub = &self.run.builder.shared;
                    let checksum = op.checksum.as_deref();
                    all.push(remote::fetch(&hub.core, &self.store(), address, checksum).await?);
                }
            }
            Ok(all)
        };
        let fetched: Result<&Vec<Fetched>> = self.fetched.get_or_try_init(fetch).await;
        Ok(fetched?)
    }

    /// Where bytes of the context and of the web are, by their digest.
    fn store(&self) -> PathBuf {
        context::store(&self.run.builder.shared.config.root)
    }

    async fn whole_context(&self) -> Result<String> {
        let context = self.run.context().await?;
        let to = Destination {
            path: "/",
            is_directory: true,
            parents: false,
        };
        Ok(context.select(&["."], to, true, &[]).await?.digest)
    }

    async fn execute(&self, number: u32) -> Result<Outcome> {
        let hub = &self.run.builder.shared;
        let id = Hub::unique();
        let since_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let since_s = i64::try_from(since_s).unwrap_or_default();
        let snapshots = hub.core.snapshots.leased(Some(&self.run.lease));
        let mounts = {
            let (ns, id, parent) = (hub.ns.clone(), id.clone(), self.parent.to_owned());
            let snapshots = snapshots.clone();
            blocking(move || snapshots.prepare(&ns, SNAPSHOTTER, &id, &parent, &Labels::new()))
                .await?
        };
        let filled = self.fill(number, &id, &mounts).await;
        let (core, ns) = (hub.core.clone(), hub.ns.clone());
        let (lease, parent) = (self.run.lease.clone(), self.parent.to_owned());
        let time_s = self.run.request.time_s;
        blocking(move || {
            let committed = filled.and_then(|()| {
                let written = Written {
                    key: &id,
                    parent: &parent,
                    since_s,
                    time_s,
                };
                layer::commit(&core, &ns, &lease, written)
            });
            if committed.is_err()
                && let Err(undo) = snapshots.remove(&ns, SNAPSHOTTER, &id)
                && undo.kind() != Kind::NotFound
            {
                tracing::warn!(snapshot = id, error = %lite_core::chain(&undo), "undo a build's step");
            }
            committed
        })
        .await
    }

    async fn fill(&self, number: u32, id: &str, mounts: &[Mount]) -> Result<()> {
        match self.op {
            Op::Run(op) => run_step::run(self, op, number, id, mounts).await,
            Op::Copy(op) => self.copy(op, mounts).await,
            Op::MakeDir { path } => {
                let (path, root) = (path.clone(), self.root(mounts));
                let time_s = self.run.request.time_s;
                let what = format!("make directory {path}");
                blocking(move || {
                    root()?
                        .make_dirs(&path, (0, 0), time_s)
                        .map(drop)
                        .op(|| what)
                })
                .await
            }
        }
    }

    /// Opens the root file system, on a thread that may block.
    pub(crate) fn root(&self, mounts: &[Mount]) -> impl FnOnce() -> Result<Root> + Send + 'static {
        let state = self.run.builder.shared.config.state.clone();
        let mounts = mounts.to_vec();
        move || rootfs::open(&mounts, &state).map(Root::new)
    }

    async fn copy(&self, op: &CopyOp, mounts: &[Mount]) -> Result<()> {
        let root = blocking(self.root(mounts)).await?;
        let to = destination(op);
        let exists_as_dir = root.is_dir(to.path);
        let invalid = |what: String| Kind::InvalidArgument.error(what);
        let rules = Rules {
            owner: self.owner(op, &root)?,
            mode: op.mode.clone(),
            exclude: exclusions(op)?,
            time_s: self.run.request.time_s,
        };
        let typed = paths_of(op);
        let (source, selected) = match &op.from {
            Some(from) => {
                let source = self.tree(from).await?;
                let mut selected = Vec::new();
                for typed in &typed {
                    selected
                        .extend(copy::select(&source, typed, to, exists_as_dir).map_err(invalid)?);
                }
                (source, selected)
            }
            None if typed.is_empty() => (
                Source::Context(crate::source::Listing::default()),
                Vec::new(),
            ),
            None => {
                let context = self.run.context().await?;
                let ready = context
                    .select(&typed, to, exists_as_dir, &rules.exclude)
                    .await?;
                (ready.source, ready.selected)
            }
        };
        let (fetched, store) = (self.fetched(op).await?.to_vec(), self.store());
        let (op, time_s) = (op.clone(), self.run.request.time_s);
        let state = self.run.builder.shared.config.state.clone();
        blocking(move || {
            let place = |source: &Source, one: &Selected, unpack: bool| {
                if unpack && crate::archive::is_one(source, &one.from)? {
                    return crate::archive::unpack(
                        &root,
                        source,
                        one,
                        &op.destination,
                        &state,
                        time_s,
                    );
                }
                copy::write(&root, source, one, &rules).map_err(invalid)
            };
            for one in &selected {
                place(&source, one, op.unpack.unwrap_or(op.add))?;
            }
            for one in &fetched {
                let (source, name) = one.source(&store);
                let to = destination(&op);
                for one in copy::select(&source, &name, to, exists_as_dir).map_err(invalid)? {
                    place(&source, &one, op.unpack.unwrap_or_default())?;
                }
            }
            inline(&op, &root, &rules, exists_as_dir).map_err(invalid)
        })
        .await
    }

    /// Who owns what is copied: of a context root, unless the instruction says so.
    fn owner(&self, op: &CopyOp, root: &Root) -> Result<Option<(u32, u32)>> {
        let Some(typed) = &op.owner else {
            return Ok(None);
        };
        let context = || format!("chown {typed}");
        // A user without a group has its number for a group, not the one of its account.
        let by_number = typed.parse::<u32>().is_ok();
        let passwd = root.read_text("/etc/passwd").op(context)?;
        let groups = root.read_text("/etc/group").op(context)?;
        let found = lite_core::user::resolve(typed, &passwd, &groups);
        let found = found.map_err(|err| Kind::InvalidArgument.error(context()).because(err))?;
        let gid = if by_number { found.uid } else { found.gid };
        Ok(Some((found.uid, gid)))
    }

    /// The file system of a stage or image.
    async fn tree(&self, from: &str) -> Result<Source> {
        let chain = self.source_chain(from).await?;
        if chain.is_empty() {
            return Ok(Source::Context(crate::source::Listing::default()));
        }
        let run = Arc::clone(self.run);
        blocking(move || {
            let hub = &run.builder.shared;
            let key = Hub::unique();
            let mounts = hub.view(&run.lease, &key, &chain)?;
            let opened = rootfs::open(&mounts, &hub.config.state);
            // The descriptor keeps the directories below it alive.
            hub.core.snapshots.remove(&hub.ns, SNAPSHOTTER, &key)?;
            Ok(Source::Tree(opened?))
        })
        .await
    }
}

fn needs_context(op: &RunOp) -> bool {
    op.mounts
        .iter()
        .any(|mount| matches!(&mount.kind, MountKind::Bind { from: None, .. }))
}

fn paths_of(op: &CopyOp) -> Vec<&str> {
    op.sources
        .iter()
        .filter_map(|source| match source {
            CopySource::Path(path) => Some(path.as_str()),
            CopySource::Inline { .. } | CopySource::Address(_) => None,
        })
        .collect()
}

fn destination(op: &CopyOp) -> Destination<'_> {
    Destination {
        path: &op.destination,
        is_directory: op.into_directory,
        parents: op.parents,
    }
}

fn exclusions(op: &CopyOp) -> Result<Vec<Pattern>> {
    let parse = |text: &String| {
        let text = text.trim_start_matches('/');
        Pattern::parse(text).map_err(|bad| Kind::InvalidArgument.error(bad.to_string()))
    };
    op.exclude.iter().map(parse).collect()
}

fn inline(
    op: &CopyOp,
    root: &Root,
    rules: &Rules,
    exists_as_dir: bool,
) -> std::result::Result<(), String> {
    for source in &op.sources {
        if let CopySource::Inline { name, content } = source {
            let into = op.into_directory || exists_as_dir;
            let to = if into {
                crate::paths::join(&op.destination, name)
            } else {
                op.destination.clone()
            };
            copy::write_inline(root, content, &to, rules)?;
        }
    }
    Ok(())
}
