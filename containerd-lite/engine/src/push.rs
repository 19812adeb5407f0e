//! Pushes images to registries.

use std::collections::HashSet;

use lite_core::push::{self, Arrived, PushProgress, What};
use lite_core::{Credentials, Descriptor, Kind, Platform, Reference, Result, image};
use tokio::sync::mpsc;

use crate::accounts;
use crate::engine::Engine;
use crate::events::Event;
use crate::images;

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct Push {
    /// As typed: no tag means `latest`, unless all are wanted.
    pub reference: String,
    /// All tags of the repository.
    pub all_tags: bool,
    /// `os/arch[/variant]`: only this one of several; empty for all.
    pub platform: String,
    /// Whoever pushes.
    pub credentials: Option<Credentials>,
}

/// News of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushNews {
    /// One layer, or with an empty id the push as a whole.
    Progress {
        /// Its digest.
        id: String,
        /// What is happening to it, in Docker's words.
        status: String,
        /// Bytes that have gone out.
        current: u64,
        /// Bytes that it has.
        total: u64,
    },
    /// One reference is there. One for each, the last ends the push.
    Done {
        /// The normalised reference.
        reference: String,
        /// Digest of what it points to.
        digest: String,
        /// Bytes of that document.
        size: u64,
    },
}

/// News that waits for a client that does not read.
const WAITING: usize = 64;

/// Pushes as asked for. The push ends when the receiver is dropped; the registry
/// keeps what has arrived.
///
/// # Errors
/// InvalidArgument for the reference; NotFound where no image has the name; all
/// else comes as the last message.
pub async fn push(engine: &Engine, request: Push) -> Result<mpsc::Receiver<Result<PushNews>>> {
    let reference = Reference::parse(&request.reference).map_err(|err| {
        Kind::InvalidArgument
            .error("invalid reference format")
            .because(err)
    })?;
    let what = match request.platform.as_str() {
        "" => What::Available,
        typed => What::Platform(Platform::parse(typed).ok_or_else(|| {
            Kind::InvalidArgument.error(format!(
                "platform {typed:?}: expected os/arch or os/arch/variant"
            ))
        })?),
    };
    let all_tags = request.all_tags;
    if all_tags
        && request
            .reference
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains([':', '@']))
    {
        return Err(Kind::InvalidArgument.error("tag can't be used with --all-tags/-a"));
    }
    let work = {
        let (engine, reference) = (engine.clone(), reference.clone());
        lite_core::blocking(move || named(&engine, &reference, all_tags)).await?
    };
    let (news, receiver) = mpsc::channel(WAITING);
    let engine = engine.clone();
    let client = accounts::client(&engine, reference.domain(), request.credentials);
    tokio::spawn(async move {
        let all = async {
            let heading = format!("The push refers to repository [{}]", reference.name());
            let _nobody_listens = news.send(Ok(notice(heading))).await;
            for (reference, target) in &work {
                let pushing = Pushing {
                    client: &client,
                    engine: &engine,
                    what: &what,
                    news: &news,
                };
                let outcome = Box::pin(pushing.one(reference, target)).await;
                let failed = outcome.is_err();
                if news.send(outcome).await.is_err() || failed {
                    return;
                }
            }
        };
        tokio::select! {
            () = all => {}
            () = news.closed() => {}
        }
    });
    Ok(receiver)
}

fn notice(status: String) -> PushNews {
    PushNews::Progress {
        id: String::new(),
        status,
        current: 0,
        total: 0,
    }
}

/// What is to be pushed, by name.
fn named(
    engine: &Engine,
    reference: &Reference,
    all_tags: bool,
) -> Result<Vec<(Reference, Descriptor)>> {
    let none = |name: &str| {
        Kind::NotFound.error(format!(
            "An image does not exist locally with the tag: {name}"
        ))
    };
    if !all_tags {
        let typed = reference.to_string();
        let found = images::by_reference(engine, &typed)?;
        let image = found.ok_or_else(|| none(reference.familiar_name()))?;
        return Ok(vec![(reference.clone(), image.target)]);
    }
    let mut all: Vec<(Reference, Descriptor)> = images::catalog(engine)?
        .into_iter()
        .filter_map(|found| Some((found.reference()?, found.image.target)))
        .filter(|(other, _)| other.name() == reference.name() && other.tag().is_some())
        .collect();
    all.sort_by(|(a, _), (b, _)| a.tag().cmp(&b.tag()));
    match all.is_empty() {
        true => Err(none(reference.familiar_name())),
        false => Ok(all),
    }
}

struct Pushing<'a> {
    client: &'a lite_core::RegistryClient,
    engine: &'a Engine,
    what: &'a What,
    news: &'a mpsc::Sender<Result<PushNews>>,
}

impl Pushing<'_> {
    async fn one(&self, reference: &Reference, target: &Descriptor) -> Result<PushNews> {
        let (core, ns) = (self.engine.core(), self.engine.ns());
        // Configurations are no layers: Docker does not tell of them.
        let quiet = {
            let (core, ns, target) = (core.clone(), ns.clone(), target.clone());
            let resolve = move || {
                let resolved = image::resolve(&core, &ns, &target, &Platform::host());
                Ok(resolved.map(|resolved| resolved.config.digest).ok())
            };
            lite_core::blocking(resolve).await?
        };
        let quiet: HashSet<String> = quiet.iter().map(ToString::to_string).collect();
        let (progress, raw) = mpsc::channel(WAITING);
        let work = push::push(
            self.client,
            core,
            ns,
            target,
            reference,
            self.what,
            progress,
        );
        let (pushed, ()) = tokio::join!(Box::pin(work), self.forward(raw, &quiet));
        let pushed = pushed?;
        let name = reference.familiar();
        self.engine
            .emit(Event::now("image", "push", &name).with("name", &name));
        Ok(PushNews::Done {
            reference: reference.to_string(),
            digest: pushed.digest.to_string(),
            size: pushed.size,
        })
    }

    async fn forward(&self, mut raw: mpsc::Receiver<PushProgress>, quiet: &HashSet<String>) {
        while let Some(progress) = raw.recv().await {
            let Some(told) = tell(progress, quiet) else {
                continue;
            };
            if self.news.send(Ok(told)).await.is_err() {
                return;
            }
        }
    }
}

fn tell(progress: PushProgress, quiet: &HashSet<String>) -> Option<PushNews> {
    let (digest, status, current, total) = match progress {
        PushProgress::Target(_) | PushProgress::Manifest(_) => return None,
        PushProgress::Sending {
            digest,
            offset,
            total,
        } => (digest, "Pushing".to_owned(), offset, total),
        PushProgress::Done { digest, total, how } => {
            let status = match how {
                Arrived::Existed => "Layer already exists".to_owned(),
                Arrived::Mounted(from) => format!("Mounted from {from}"),
                Arrived::Sent => "Pushed".to_owned(),
                Arrived::Foreign => "Skipped foreign layer".to_owned(),
            };
            (digest, status, total, total)
        }
    };
    let id = digest.to_string();
    (!quiet.contains(&id)).then_some(PushNews::Progress {
        id,
        status,
        current,
        total,
    })
}
