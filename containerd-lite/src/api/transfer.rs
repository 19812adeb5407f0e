//! Transfer: an image from one place to another in one call, which is how newer
//! clients pull, push, import, export and tag.
//!
//! 1. [`Party::of`] reads what the two ends are.
//! 2. The pair says what is to be done; a function each.
//! 3. What happens meanwhile goes over the progress stream, if the client has
//!    opened one; bytes of archives and questions for credentials have streams
//!    of their own.

mod progress;

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use lite_core::export::{Exported, export};
use lite_core::import::import;
use lite_core::pull::pull_with;
use lite_core::push::{What, push};
use lite_core::{
    Core, Credentials, Filters, Image, Kind, Namespace, Platform, Reference, RegistryClient,
    blocking,
};
use prost::Message as _;
use prost_types::Any;
use proto::containerd::services::transfer::v1 as wire;
use proto::containerd::types;
use proto::containerd::types::transfer as parties;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::status::to_status;
use super::streaming::{self, Channel, Streams};
use super::wire::{labels, namespace};
use progress::Progress;

/// News between a transfer and the client.
const QUEUE: usize = 64;

/// The adapter over the core's pull, push, import and export.
#[derive(Clone)]
pub struct TransferApi {
    core: Core,
    streams: Streams,
}

impl TransferApi {
    /// An adapter over `core`, whose streams are opened in `streams`.
    #[must_use]
    pub fn new(core: Core, streams: Streams) -> Self {
        Self { core, streams }
    }
}

/// An end of a transfer.
enum Party {
    Registry(parties::OciRegistry),
    Store(parties::ImageStore),
    Import(parties::ImageImportStream),
    Export(parties::ImageExportStream),
}

impl Party {
    fn of(any: Option<Any>, what: &str) -> Result<Self, Status> {
        let any = any.ok_or_else(|| Status::invalid_argument(format!("{what} is required")))?;
        let bytes = any.value.as_slice();
        let name = any.type_url.rsplit('/').next().unwrap_or_default();
        let party = match name.strip_prefix("containerd.types.transfer.") {
            Some("OCIRegistry") => parties::OciRegistry::decode(bytes).map(Self::Registry),
            Some("ImageStore") => parties::ImageStore::decode(bytes).map(Self::Store),
            Some("ImageImportStream") => {
                parties::ImageImportStream::decode(bytes).map(Self::Import)
            }
            Some("ImageExportStream") => {
                parties::ImageExportStream::decode(bytes).map(Self::Export)
            }
            _ => {
                let text = format!("transfer with {what} {:?}: not implemented", any.type_url);
                return Err(Status::unimplemented(text));
            }
        };
        party.map_err(|err| Status::invalid_argument(format!("{what} {name}: {err}")))
    }
}

#[tonic::async_trait]
impl wire::transfer_server::Transfer for TransferApi {
    async fn transfer(
        &self,
        request: Request<wire::TransferRequest>,
    ) -> Result<Response<()>, Status> {
        let ns = namespace(&request)?;
        let request = request.into_inner();
        let source = Party::of(request.source, "source")?;
        let destination = Party::of(request.destination, "destination")?;
        let stream = request.options.unwrap_or_default().progress_stream;
        let progress = match stream.as_str() {
            "" => None,
            id => Some(self.streams.take(ns.as_str(), id)?),
        };
        let work = Transfer {
            core: &self.core,
            streams: &self.streams,
            ns: &ns,
            progress: Progress::over(progress),
        };
        let done = match (source, destination) {
            (Party::Registry(from), Party::Store(to)) => work.pull(from, to).boxed(),
            (Party::Store(from), Party::Registry(to)) => work.push(from, to).boxed(),
            (Party::Import(from), Party::Store(_)) => work.import(from).boxed(),
            (Party::Store(from), Party::Export(to)) => work.export(from, to).boxed(),
            (Party::Store(from), Party::Store(to)) => work.tag(from, to).boxed(),
            _ => {
                return Err(Status::unimplemented(
                    "transfer between these two: not implemented",
                ));
            }
        };
        done.await.map(Response::new)
    }
}

struct Transfer<'a> {
    core: &'a Core,
    streams: &'a Streams,
    ns: &'a Namespace,
    progress: Progress,
}

impl Transfer<'_> {
    async fn pull(
        &self,
        from: parties::OciRegistry,
        to: parties::ImageStore,
    ) -> Result<(), Status> {
        let reference = reference(&from.reference)?;
        let client = self.client(&reference, from.resolver).await?;
        let unpacked = to.unpacks.into_iter().filter_map(|unpack| unpack.platform);
        let mut platforms: Vec<Platform> = unpacked.chain(to.platforms).map(platform).collect();
        platforms.dedup();
        if platforms.is_empty() {
            platforms.push(Platform::host());
        }
        let mut target = None;
        for platform in &platforms {
            let (news, receiver) = mpsc::channel(QUEUE);
            let pulling =
                pull_with(&client, self.core, self.ns, &reference, platform, news).boxed();
            let telling = self
                .progress
                .of_pull(reference.to_string(), receiver)
                .boxed();
            let (pulled, ()) = tokio::join!(pulling, telling);
            target = Some(pulled.map_err(to_status)?.image.target);
        }
        let Some(target) = target else {
            return Ok(());
        };
        let mut image = Image::new(
            match to.name {
                name if name.is_empty() => reference.to_string(),
                name => name,
            },
            target,
        );
        image.labels = labels(to.labels);
        let named = image.name != reference.to_string() || !image.labels.is_empty();
        self.progress.said("saved", &image.name).await;
        if named {
            self.put(image).await?;
        }
        let done = format!("Completed pull from OCI Registry ({reference})");
        self.progress.said(&done, "").await;
        Ok(())
    }

    async fn push(
        &self,
        from: parties::ImageStore,
        to: parties::OciRegistry,
    ) -> Result<(), Status> {
        let reference = reference(&to.reference)?;
        let image = self.get(from.name).await?;
        let client = self.client(&reference, to.resolver).await?;
        let mut platforms = from.platforms.into_iter().map(platform);
        let what = match (platforms.next(), platforms.next()) {
            (Some(only), None) => What::Platform(only),
            (Some(_), Some(_)) => What::All,
            (None, _) => What::Available,
        };
        let (news, receiver) = mpsc::channel(QUEUE);
        let target = &image.target;
        let pushing = push(&client, self.core, self.ns, target, &reference, &what, news).boxed();
        let telling = self.progress.of_push(&image.name, receiver).boxed();
        let (pushed, ()) = tokio::join!(pushing, telling);
        pushed.map_err(to_status)?;
        let done = format!("Completed push to OCI Registry ({reference})");
        self.progress.said(&done, "").await;
        Ok(())
    }

    async fn import(&self, from: parties::ImageImportStream) -> Result<(), Status> {
        let channel = self.streams.take(self.ns.as_str(), &from.stream)?;
        let archive = streaming::receive(channel);
        let images = import(self.core, self.ns, archive)
            .await
            .map_err(to_status)?;
        for image in images {
            self.progress.said("saved", &image.name).await;
        }
        self.progress.said("Completed import", "").await;
        Ok(())
    }

    async fn export(
        &self,
        from: parties::ImageStore,
        to: parties::ImageExportStream,
    ) -> Result<(), Status> {
        let channel = self.streams.take(self.ns.as_str(), &to.stream)?;
        let only = match to.all_platforms {
            true => None,
            false => to.platforms.into_iter().next().map(platform),
        };
        let images = self.listed(from).await?;
        let (writer, pieces) = streaming::pipe();
        let (core, ns) = (self.core.clone(), self.ns.clone());
        let exporting = blocking(move || export(&core, &ns, &images, only.as_ref(), writer));
        let (exported, sent) = tokio::join!(exporting, streaming::send(channel, pieces));
        // When the receiver goes away, that is why the archive broke off.
        sent?;
        exported.map_err(to_status)?;
        self.progress.said("Completed export", "").await;
        Ok(())
    }

    async fn tag(&self, from: parties::ImageStore, to: parties::ImageStore) -> Result<(), Status> {
        let image = self.get(from.name).await?;
        let mut tagged = Image::new(to.name, image.target);
        tagged.labels = if to.labels.is_empty() {
            image.labels
        } else {
            labels(to.labels)
        };
        let name = self.put(tagged).await?.name;
        self.progress.said("saved", &name).await;
        Ok(())
    }

    /// The images that an export is asked for: one by its name, others by their
    /// names or what these begin with.
    async fn listed(&self, from: parties::ImageStore) -> Result<Vec<Exported>, Status> {
        let mut images = Vec::new();
        if !from.name.is_empty() {
            images.push(self.get(from.name).await?);
        }
        for wanted in from.extra_references {
            if !wanted.is_prefix {
                images.push(self.get(wanted.name).await?);
                continue;
            }
            let (store, ns) = (self.core.images.clone(), self.ns.clone());
            let all = blocking(move || store.list(&ns, &Filters::default())).await;
            let mut all = all.map_err(to_status)?;
            all.retain(|image| image.name.starts_with(&wanted.name));
            images.extend(all);
        }
        if images.is_empty() {
            return Err(to_status(
                Kind::InvalidArgument.error("no image to export is named: invalid argument"),
            ));
        }
        let exported = images.into_iter().map(|image| Exported {
            target: image.target,
            names: vec![image.name],
        });
        Ok(exported.collect())
    }

    async fn get(&self, name: String) -> Result<Image, Status> {
        let (store, ns) = (self.core.images.clone(), self.ns.clone());
        blocking(move || store.get(&ns, &name))
            .await
            .map_err(to_status)
    }

    async fn put(&self, image: Image) -> Result<Image, Status> {
        let (store, ns) = (self.core.images.clone(), self.ns.clone());
        blocking(move || store.put(&ns, image))
            .await
            .map_err(to_status)
    }

    /// A client as the other end wants to be reached, with the credentials that
    /// the caller has for it.
    async fn client(
        &self,
        reference: &Reference,
        resolver: Option<parties::RegistryResolver>,
    ) -> Result<RegistryClient, Status> {
        let resolver = resolver.unwrap_or_default();
        let mut credentials = BTreeMap::new();
        if !resolver.auth_stream.is_empty() {
            let channel = self.streams.take(self.ns.as_str(), &resolver.auth_stream)?;
            if let Some(found) = ask(channel, reference).await? {
                credentials.insert(reference.domain().to_owned(), found);
            }
        }
        let plain = resolver.default_scheme == "http";
        if resolver.host_dir.is_empty() && !plain {
            return Ok(self.core.registry.with_credentials(credentials));
        }
        let mut config = self.core.config.registry.clone();
        config.credentials = credentials;
        if plain {
            config.plain_http.insert(reference.domain().to_owned());
        }
        if !resolver.host_dir.is_empty() {
            config.hosts_dirs = vec![resolver.host_dir.into()];
        }
        RegistryClient::new(config).map_err(|err| Status::invalid_argument(err.to_string()))
    }
}

/// What the caller has for the registry of `reference`.
async fn ask(mut channel: Channel, reference: &Reference) -> Result<Option<Credentials>, Status> {
    let question = parties::AuthRequest {
        host: reference.domain().to_owned(),
        reference: reference.to_string(),
        wwwauthenticate: Vec::new(),
    };
    channel
        .send("containerd.types.transfer.AuthRequest", &question)
        .await?;
    let answer: Option<parties::AuthResponse> = channel
        .next("containerd.types.transfer.AuthResponse")
        .await?;
    let Some(answer) = answer else {
        return Ok(None);
    };
    let kind = answer.auth_type();
    let token = answer.secret;
    Ok(match kind {
        parties::AuthType::None => None,
        _ if token.is_empty() => None,
        parties::AuthType::Credentials => Some(Credentials::password(answer.username, token)),
        parties::AuthType::Refresh => Some(Credentials::Identity { token }),
        parties::AuthType::Header => Some(Credentials::Bearer {
            token: token.trim_start_matches("Bearer ").to_owned(),
        }),
    })
}

fn reference(text: &str) -> Result<Reference, Status> {
    Reference::parse(text).map_err(|err| Status::invalid_argument(err.to_string()))
}

fn platform(wire: types::Platform) -> Platform {
    Platform {
        os: wire.os,
        architecture: wire.architecture,
        variant: wire.variant,
    }
}
