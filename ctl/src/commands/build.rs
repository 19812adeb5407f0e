//! `ctl build`: sends the Dockerfile, answers what the daemon asks of the context, shows how far it is.

use std::io::{IsTerminal as _, Read as _, Write as _, stdin};
use std::path::{Path, PathBuf};

use proto::engine::v1::build_input::Message as Input;
use proto::engine::v1::build_output::Message as Output;
use proto::engine::v1::{BuildInput, BuildRequest};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::DONE;
use crate::build_context::Context;
use crate::build_source::Source;
use crate::cli::build::{BuildArgs, PruneArgs};
use crate::client::Engine;
use crate::failure::{Failure, reason};
use crate::out;
use crate::render::build::Progress;
use crate::render::clean::clean;
use crate::render::names::familiar;

/// Messages on their way to the daemon; when there are so many, reading waits.
const WAITING: usize = 16;

/// Runs the command. With `-q` the image's id is the only output; progress goes to stderr.
pub(crate) async fn run(client: &mut Engine, args: &BuildArgs) -> Result<u8, Failure> {
    let quiet = match args.progress.as_str() {
        "quiet" => true,
        "auto" | "plain" => args.quiet,
        other => {
            let message = format!("--progress={other}: expected auto, plain or quiet");
            return Err(Failure::Typed(message));
        }
    };
    let is_stdin = |path: &Path| path.as_os_str() == "-";
    if is_stdin(&args.context) && args.file.as_deref().is_some_and(is_stdin) {
        let message = "stdin cannot be both the context and the Dockerfile";
        return Err(Failure::Typed(message.to_owned()));
    }
    // Where it was unpacked, it is removed also when the user interrupts.
    let source = Source::open(&args.context)?;
    if !source.is_temporary() {
        return build(client, args, &source, quiet).await;
    }
    let interrupted = Failure::Client("the build was interrupted".to_owned());
    let mut terminated =
        signal(SignalKind::terminate()).map_err(|err| Failure::io("wait for signals", &err))?;
    tokio::select! {
        built = build(client, args, &source, quiet) => built,
        _ = tokio::signal::ctrl_c() => Err(interrupted),
        _ = terminated.recv() => Err(interrupted),
    }
}

async fn build(
    client: &mut Engine,
    args: &BuildArgs,
    source: &Source,
    quiet: bool,
) -> Result<u8, Failure> {
    let (request, context) = request(args, source)?;
    let (inputs, receiver) = mpsc::channel(WAITING);
    let first = BuildInput {
        message: Some(Input::Request(request)),
    };
    // The channel is empty: there is room.
    let _ = inputs.send(first).await;
    let answer = client.build(ReceiverStream::new(receiver)).await?;
    let mut outputs = answer.into_inner();
    let mut progress = Progress::default();
    loop {
        let output = match outputs.message().await {
            Ok(Some(output)) => output,
            Ok(None) => {
                let message = "the daemon ended the build without a result";
                return Err(Failure::Client(message.to_owned()));
            }
            Err(status) => return Err(failed(status)),
        };
        match output.message {
            Some(Output::List(path)) => answer_list(&inputs, &context, path).await,
            Some(Output::Read(path)) => answer_read(&inputs, &context, path),
            Some(Output::Step(step)) if !quiet => say(&progress.step(&step))?,
            Some(Output::Warning(text)) if !quiet => say(&progress.warning(&text))?,
            Some(Output::Done(done)) => {
                if let Some(path) = &args.iidfile {
                    std::fs::write(path, &done.id)
                        .map_err(|err| Failure::io(format!("write {}", path.display()), &err))?;
                }
                if quiet {
                    out::line(&done.id)?;
                } else {
                    let names: Vec<&str> = done.names.iter().map(|name| familiar(name)).collect();
                    say(&progress.done(&done.id, &names))?;
                }
                return Ok(DONE);
            }
            Some(Output::Step(_) | Output::Warning(_)) | None => {}
        }
    }
}

/// `ctl builder prune`: forgets cached results.
pub(crate) async fn prune(client: &mut Engine, args: &PruneArgs) -> Result<u8, Failure> {
    if !args.force {
        out::complain(
            "WARNING! This will remove all build cache. Are you sure you want to continue? [y/N] ",
        );
        let mut answer = String::new();
        stdin()
            .read_line(&mut answer)
            .map_err(|err| Failure::io("read the answer", &err))?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(DONE);
        }
    }
    client.prune_builds(()).await?;
    Ok(DONE)
}

/// A mistake in a Dockerfile is shown in several lines; each is made safe for a terminal by itself.
fn failed(status: tonic::Status) -> Failure {
    if !status.message().contains('\n') {
        return Failure::from(status);
    }
    let mut lines = status.message().lines();
    out::complain(&format!(
        "ctl: {}\n",
        clean(lines.next().unwrap_or_default())
    ));
    for line in lines {
        out::complain(&format!("{}\n", clean(line)));
    }
    Failure::Reported
}

fn say(text: &str) -> Result<(), Failure> {
    let mut stderr = std::io::stderr().lock();
    let written = stderr.write_all(text.as_bytes());
    written.map_err(|err| Failure::output(&err))
}

async fn answer_list(inputs: &mpsc::Sender<BuildInput>, context: &Context, path: String) {
    let listing = context.list(path);
    let message = Some(Input::Listing(listing));
    // A daemon that is gone says so where its answers are read.
    let _ = inputs.send(BuildInput { message }).await;
}

/// On a thread of its own: a large file must not hold up what else is asked for.
fn answer_read(inputs: &mpsc::Sender<BuildInput>, context: &Context, path: String) {
    let (inputs, context) = (inputs.clone(), context.clone());
    tokio::task::spawn_blocking(move || {
        context.read(&path, |piece| {
            let message = Some(Input::Piece(piece));
            inputs.blocking_send(BuildInput { message }).is_ok()
        });
    });
}

/// The request, and the context that the daemon may ask for.
fn request(args: &BuildArgs, source: &Source) -> Result<(BuildRequest, Context), Failure> {
    let context = match &source.dir {
        Some(dir) => Context::open(dir)?,
        None => Context::empty(),
    };
    let in_context = |name: &Path| match &source.dir {
        Some(dir) => dir.join(name),
        None => name.to_owned(),
    };
    let file = match &args.file {
        // Inside what was unpacked, as there is no other place for it.
        Some(file) if source.is_temporary() => in_context(file),
        Some(file) => file.clone(),
        None => in_context(Path::new("Dockerfile")),
    };
    let (file_name, dockerfile) = match &source.dockerfile {
        Some(text) => ("Dockerfile".to_owned(), text.clone()),
        None => dockerfile(&file)?,
    };
    let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => Some(text.trim().parse().map_err(|_| {
            Failure::Typed(format!(
                "SOURCE_DATE_EPOCH={text}: expected seconds since 1970"
            ))
        })?),
        Err(_) => None,
    };
    let request = BuildRequest {
        ignore: match &source.dir {
            Some(dir) => ignore(&file, dir)?,
            None => String::new(),
        },
        file_name,
        dockerfile,
        names: args.tag.clone(),
        build_args: pairs(&args.build_arg),
        target: args.target.clone().unwrap_or_default(),
        platform: args.platform.clone().unwrap_or_default(),
        labels: args.label.iter().map(|text| pair(text)).collect(),
        no_cache: args.no_cache,
        no_cache_stages: args.no_cache_filter.clone(),
        pull: args.pull,
        network: args.network.clone().unwrap_or_default(),
        secrets: args
            .secret
            .iter()
            .map(|text| secret(text))
            .collect::<Result<_, _>>()?,
        source_date_epoch: epoch,
        // Inodes of a temporary directory tell nothing the next time.
        context_id: match source.is_temporary() {
            true => String::new(),
            false => context.id(),
        },
        extra_hosts: args.add_host.clone(),
        shm_bytes: args.shm_size.map(|bytes| bytes.0),
        ulimits: args.ulimit.clone(),
    };
    Ok((request, context))
}

fn dockerfile(file: &Path) -> Result<(String, String), Failure> {
    if file.as_os_str() == "-" {
        if stdin().is_terminal() {
            let message = "a Dockerfile is expected on stdin, which is a terminal";
            return Err(Failure::Client(message.to_owned()));
        }
        let mut text = String::new();
        stdin()
            .read_to_string(&mut text)
            .map_err(|err| Failure::io("read the Dockerfile from stdin", &err))?;
        return Ok(("Dockerfile".to_owned(), text));
    }
    let name = file.file_name().unwrap_or(file.as_os_str());
    let text = std::fs::read_to_string(file)
        .map_err(|err| Failure::io(format!("read {}", file.display()), &err))?;
    Ok((name.to_string_lossy().into_owned(), text))
}

/// The Dockerfile's own ignore file, or that of the context.
fn ignore(file: &Path, context: &Path) -> Result<String, Failure> {
    let mut own = file.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore")] {
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok(text),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
            Err(err) => {
                let message = format!("read {}: {}", path.display(), reason(&err));
                return Err(Failure::Client(message));
            }
        }
    }
    Ok(String::new())
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

/// `NAME=value`; `NAME` alone takes the client's own variable, and is left out where there is none.
fn pairs(list: &[String]) -> std::collections::HashMap<String, String> {
    list.iter()
        .filter_map(|text| match text.split_once('=') {
            Some(_) => Some(pair(text)),
            None => Some((text.clone(), std::env::var(text).ok()?)),
        })
        .collect()
}

/// `id=NAME[,src=FILE][,env=VARIABLE]`; without a source, the variable or file of that name.
fn secret(text: &str) -> Result<(String, bytes::Bytes), Failure> {
    let typed = |what: &str| Failure::Typed(format!("--secret {text}: {what}"));
    let (mut id, mut file, mut variable) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => file = Some(PathBuf::from(value)),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", "file" | "env")) => {}
            _ => return Err(typed("expected id=NAME[,src=FILE][,env=VARIABLE]")),
        }
    }
    let id = id.ok_or_else(|| typed("id= is missing"))?;
    let from_env = |name: &str| std::env::var_os(name).map(std::ffi::OsString::into_encoded_bytes);
    let value = match (&variable, &file) {
        (Some(name), _) => from_env(name).ok_or_else(|| typed(&format!("{name} is not set")))?,
        (None, None) if from_env(&id).is_some() => from_env(&id).unwrap_or_default(),
        (None, file) => {
            let path = file.clone().unwrap_or_else(|| PathBuf::from(&id));
            std::fs::read(&path)
                .map_err(|err| Failure::io(format!("read {}", path.display()), &err))?
        }
    };
    Ok((id, value.into()))
}
