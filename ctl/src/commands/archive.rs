//! Archives to and from files and pipes: export, import, save; and `ctl diff`.

use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write, stdin, stdout};
use std::path::{Path, PathBuf};

use proto::engine::v1::{
    Chunk, ContainerRequest, ImportImageRequest, SaveImagesRequest, import_image_request,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::DONE;
use crate::cli::files::{DiffArgs, ExportArgs, ImportArgs, SaveArgs};
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;

/// Bytes in one message, well below gRPC's limit.
const CHUNK: usize = 256 << 10;

/// Chunks read ahead; when full, reading waits for the daemon.
pub(super) const READ_AHEAD: usize = 8;

/// `ctl diff`: `A /added`, `C /changed`, `D /deleted`.
pub(crate) async fn diff(client: &mut Engine, args: &DiffArgs) -> Result<u8, Failure> {
    let request = ContainerRequest {
        container: args.container.clone(),
    };
    for change in client.diff_container(request).await?.into_inner().changes {
        out::line(&format!("{} {}", change.kind, change.path))?;
    }
    Ok(DONE)
}

/// `ctl export`.
pub(crate) async fn export(client: &mut Engine, args: &ExportArgs) -> Result<u8, Failure> {
    let output = Output::open(args.output.as_deref())?;
    let request = ContainerRequest {
        container: args.container.clone(),
    };
    output
        .fill(client.export_container(request).await?.into_inner())
        .await
}

/// `ctl save`.
pub(crate) async fn save(client: &mut Engine, args: &SaveArgs) -> Result<u8, Failure> {
    let output = Output::open(args.output.as_deref())?;
    let request = SaveImagesRequest {
        names: args.images.clone(),
        platform: args.platform.clone().unwrap_or_default(),
    };
    output
        .fill(client.save_images(request).await?.into_inner())
        .await
}

/// Where an archive goes. A file gets its name when it is whole.
enum Output {
    Stdout,
    File {
        file: File,
        unfinished: PathBuf,
        path: PathBuf,
    },
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return match stdout().is_terminal() {
                false => Ok(Self::Stdout),
                true => Err(Failure::Client(
                    "cowardly refusing to save to a terminal. Use the -o flag or redirect"
                        .to_owned(),
                )),
            };
        };
        let context = format!("write {}", path.display());
        if path.is_dir() {
            return Err(Failure::Client(format!("{context}: is a directory")));
        }
        // A device or a pipe is written as it is.
        if path.exists() && !path.is_file() {
            let file = File::options().write(true).open(path);
            let file = file.map_err(|err| Failure::io(context, &err))?;
            return Ok(Self::File {
                file,
                unfinished: path.to_owned(),
                path: path.to_owned(),
            });
        }
        let mut unfinished = path.to_owned().into_os_string();
        unfinished.push(format!(".{}", std::process::id()));
        let unfinished = PathBuf::from(unfinished);
        let file = File::create(&unfinished).map_err(|err| Failure::io(context, &err))?;
        Ok(Self::File {
            file,
            unfinished,
            path: path.to_owned(),
        })
    }

    async fn fill(mut self, mut chunks: Streaming<Chunk>) -> Result<u8, Failure> {
        loop {
            match chunks.message().await? {
                None => break,
                Some(chunk) => self.write(&chunk.data)?,
            }
        }
        if let Self::File {
            unfinished, path, ..
        } = &self
            && unfinished != path
        {
            fs::rename(unfinished, path)
                .map_err(|err| Failure::io(format!("write {}", path.display()), &err))?;
        }
        Ok(DONE)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stdout => stdout()
                .write_all(bytes)
                .map_err(|err| Failure::output(&err)),
            Self::File { file, path, .. } => file
                .write_all(bytes)
                .map_err(|err| Failure::io(format!("write {}", path.display()), &err)),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Self::File {
            unfinished, path, ..
        } = self
            && unfinished != path
        {
            // Gone already where all went well.
            let _ = fs::remove_file(unfinished);
        }
    }
}

/// `ctl import`: prints the new image's id.
pub(crate) async fn import(client: &mut Engine, args: &ImportArgs) -> Result<u8, Failure> {
    use import_image_request::{About, Message};
    if args.source.starts_with("http://") || args.source.starts_with("https://") {
        return Err(Failure::Client(format!(
            "import from an address is not offered: use `curl -L {} | ctl import -`",
            args.source
        )));
    }
    let (name, archive): (&str, Box<dyn Read + Send>) = match args.source.as_str() {
        "-" => ("standard input", Box::new(stdin())),
        path => {
            let file = File::open(path);
            let file = file.map_err(|err| Failure::io(format!("open {path}"), &err))?;
            (path, Box::new(file))
        }
    };
    let about = About {
        reference: args.reference.clone().unwrap_or_default(),
        message: args.message.clone().unwrap_or_default(),
        changes: args.change.clone(),
        platform: args.platform.clone().unwrap_or_default(),
        source: args.source.clone(),
    };
    let (messages, receiver) = mpsc::channel(READ_AHEAD);
    let reader = tokio::task::spawn_blocking(move || {
        let send = |message| {
            let message = ImportImageRequest {
                message: Some(message),
            };
            messages.blocking_send(message).is_ok()
        };
        match send(Message::About(about)) {
            true => pieces(archive, |bytes| send(Message::Chunk(bytes.into()))),
            false => Ok(()),
        }
    });
    let answer = client.import_image(ReceiverStream::new(receiver)).await;
    read_whole(reader, name).await?;
    out::line(&answer?.into_inner().id)?;
    Ok(DONE)
}

/// Reads to the end, or until nobody takes more.
pub(super) fn pieces(
    mut from: impl Read,
    mut send: impl FnMut(Vec<u8>) -> bool,
) -> std::io::Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        from.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() || !send(chunk) {
            return Ok(());
        }
    }
}

/// What could not be read here comes before what the daemon made of it.
pub(super) async fn read_whole(
    reader: tokio::task::JoinHandle<std::io::Result<()>>,
    name: &str,
) -> Result<(), Failure> {
    match reader.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(err)) => Err(Failure::io(format!("read {name}"), &err)),
        Err(err) => Err(Failure::Client(format!("read {name}: {err}"))),
    }
}
