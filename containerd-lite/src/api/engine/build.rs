//! A build's conversation: what the builder asks goes to the client, the client's answers to whoever asked.
//!
//! Everything of one build passes through [`converse`], which ends when the build does. A client that goes away cancels it.

use std::collections::HashMap;

use engine::build::{Ask, Client, Listed, Network, News, Options, Request, Teller};
use engine::{Engine, build};
use lite_core::{Kind, Platform, Result};
use proto::engine::v1 as wire;
use proto::engine::v1::build_input::Message as Input;
use proto::engine::v1::build_output::step::What;
use proto::engine::v1::build_output::{Done, Message as Output, Step};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::Messages;
use super::host_config::positive;
use crate::api::status::to_status;

/// Messages on their way to the client; when there are so many, the build waits.
const WAITING: usize = 64;

/// Whoever waits for answers of the client.
#[derive(Default)]
struct Asked {
    lists: HashMap<String, oneshot::Sender<Result<Vec<Listed>>>>,
    reads: HashMap<String, mpsc::Sender<Result<Vec<u8>>>>,
}

pub(super) async fn build(
    engine: &Engine,
    builder: &build::Builder,
    mut inputs: Streaming<wire::BuildInput>,
) -> Result<Messages<wire::BuildOutput>> {
    let first = inputs.message().await;
    let first = first.map_err(|status| Kind::Cancelled.error("read request").because(status))?;
    let Some(Input::Request(wire_request)) = first.and_then(|input| input.message) else {
        return Err(Kind::InvalidArgument.error("the first message is no build request"));
    };
    let request = request(engine, wire_request)?;
    let (outputs, receiver) = mpsc::channel(WAITING);
    let (engine, builder) = (engine.clone(), builder.clone());
    tokio::spawn(async move {
        let outcome = converse(&engine, &builder, request, inputs, &outputs).await;
        let last = outcome.map(output).map_err(to_status);
        let _ = outputs.send(last).await;
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

async fn converse(
    engine: &Engine,
    builder: &build::Builder,
    request: Request,
    mut inputs: Streaming<wire::BuildInput>,
    outputs: &mpsc::Sender<std::result::Result<wire::BuildOutput, Status>>,
) -> Result<Output> {
    let (asks, mut asked) = mpsc::channel(WAITING);
    let (news, mut told) = mpsc::channel(WAITING);
    let (cancel, cancelled) = watch::channel(false);
    let names = request.names.clone();
    let work = builder.build(request, Client::new(asks), Teller::new(news), cancelled);
    let mut work = Box::pin(work);
    let mut waiting = Asked::default();
    let mut here = true;
    let built = loop {
        tokio::select! {
            // What was told before the end is sent before it.
            biased;
            Some(news) = told.recv() => {
                here &= outputs.send(Ok(output(tell(news)))).await.is_ok();
            }
            Some(ask) = asked.recv() => {
                let wanted = waiting.note(ask);
                here &= outputs.send(Ok(output(wanted))).await.is_ok();
            }
            built = &mut work => break built,
            input = inputs.message(), if here => match input {
                Ok(Some(wire::BuildInput { message: Some(input) })) => waiting.answer(input).await,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => here = false,
            },
        }
        if !here {
            let _ = cancel.send(true);
            waiting = Asked::default();
        }
    };
    while let Ok(news) = told.try_recv() {
        let _ = outputs.send(Ok(output(tell(news)))).await;
    }
    if built.is_err() {
        engine.sweep().await;
    }
    let built = built?;
    Ok(Output::Done(Done {
        id: built.id.to_string(),
        digest: built.manifest.digest.to_string(),
        names,
    }))
}

impl Asked {
    /// Remembers who asks, and what the client is to be asked.
    fn note(&mut self, ask: Ask) -> Output {
        match ask {
            Ask::List { path, reply } => {
                self.lists.insert(path.clone(), reply);
                Output::List(path)
            }
            Ask::Read { path, reply } => {
                self.reads.insert(path.clone(), reply);
                Output::Read(path)
            }
        }
    }

    /// Hands an answer on; one that nobody waits for is dropped.
    async fn answer(&mut self, input: Input) {
        match input {
            Input::Request(_) => {}
            Input::Listing(listing) => {
                if let Some(reply) = self.lists.remove(&listing.path) {
                    let _ = reply.send(listed(listing));
                }
            }
            Input::Piece(piece) => {
                let Some(reply) = self.reads.get(&piece.path) else {
                    return;
                };
                let failed = !piece.error.is_empty();
                let part = if failed {
                    Err(Kind::InvalidArgument.error(format!("{}: {}", piece.path, piece.error)))
                } else {
                    Ok(piece.data.to_vec())
                };
                let gone = reply.send(part).await.is_err();
                if piece.last || failed || gone {
                    self.reads.remove(&piece.path);
                }
            }
        }
    }
}

fn listed(listing: wire::build_input::Listing) -> Result<Vec<Listed>> {
    if !listing.error.is_empty() {
        let what = format!("context {:?}: {}", listing.path, listing.error);
        return Err(Kind::InvalidArgument.error(what));
    }
    let file = |file: wire::build_input::File| Listed {
        name: file.name,
        mode: file.mode,
        size: file.size,
        modified_ns: file.modified_ns,
        inode: file.inode,
        target: file.target,
    };
    Ok(listing.files.into_iter().map(file).collect())
}

fn output(message: Output) -> wire::BuildOutput {
    wire::BuildOutput {
        message: Some(message),
    }
}

fn tell(news: News) -> Output {
    let (number, what) = match news {
        News::Begun { step, name } => (step, What::Begun(name)),
        News::Cached { step } => (step, What::Cached(())),
        News::Output {
            step,
            stderr: false,
            bytes,
        } => (step, What::Stdout(bytes.into())),
        News::Output { step, bytes, .. } => (step, What::Stderr(bytes.into())),
        News::Done { step, took } => {
            let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            (step, What::DoneMs(ms))
        }
        News::Failed { step } => (step, What::Failed(())),
        News::Warning(text) => return Output::Warning(text),
    };
    Output::Step(Step {
        number,
        what: Some(what),
    })
}

fn request(engine: &Engine, wire: wire::BuildRequest) -> Result<Request> {
    let host = Platform::host();
    let own = format!("{}/{}", host.os, host.architecture);
    let network = match wire.network.as_str() {
        "" | "default" => None,
        "none" => Some(Network::None),
        "host" => Some(Network::Host),
        other => {
            let what = format!("network {other:?}: expected default, none or host");
            return Err(Kind::InvalidArgument.error(what));
        }
    };
    Ok(Request {
        file_name: wire.file_name,
        text: wire.dockerfile,
        ignore: wire.ignore,
        options: Options {
            target: Some(wire.target).filter(|target| !target.is_empty()),
            build_args: wire.build_args.into_iter().collect(),
            platform: match wire.platform.as_str() {
                "" => own.clone(),
                typed => typed.to_owned(),
            },
            build_platform: own,
        },
        names: build::names(&wire.names)?,
        labels: wire.labels.into_iter().collect(),
        no_cache: wire.no_cache,
        no_cache_stages: wire.no_cache_stages,
        pull: wire.pull,
        network,
        secrets: wire
            .secrets
            .into_iter()
            .map(|(name, value)| (name, value.to_vec()))
            .collect(),
        time_s: wire.source_date_epoch.unwrap_or(build::DEFAULT_TIME_S),
        context_id: wire.context_id,
        template: build::template(
            engine,
            wire.shm_bytes.map(positive).transpose()?,
            wire.ulimits,
        )?,
        extra_hosts: engine::networks::hosts_of_steps(wire.extra_hosts)?,
    })
}
