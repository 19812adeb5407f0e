//! `ctl load`: sends an image archive from a file or stdin.

use std::fs::File;
use std::io::{IsTerminal, Read, stdin};

use proto::engine::v1::LoadImagesRequest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::DONE;
use crate::cli::image::LoadArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::names::familiar;

/// Bytes in one message, well below gRPC's limit.
const CHUNK: usize = 256 << 10;

/// Chunks read ahead; when full, reading waits for the daemon.
const READ_AHEAD: usize = 8;

/// Runs the command.
pub(crate) async fn run(client: &mut Engine, args: &LoadArgs) -> Result<u8, Failure> {
    let (name, archive): (String, Box<dyn Read + Send>) = match &args.input {
        Some(path) => {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|err| Failure::io(format!("open {name}"), &err))?;
            (name, Box::new(file))
        }
        None if stdin().is_terminal() => {
            let message = "requested load from stdin, but stdin is empty";
            return Err(Failure::Client(message.to_owned()));
        }
        None => ("standard input".to_owned(), Box::new(stdin())),
    };
    let (chunks, receiver) = mpsc::channel(READ_AHEAD);
    let reader = tokio::task::spawn_blocking(move || send_chunks(archive, &chunks));
    let answer = client.load_images(ReceiverStream::new(receiver)).await;
    // What was read decides first: the daemon can only say that it was cut off.
    match reader.await {
        Ok(Err(err)) => return Err(Failure::io(format!("read {name}"), &err)),
        Ok(Ok(())) => {}
        Err(err) => return Err(Failure::Client(format!("read {name}: {err}"))),
    }
    for loaded in answer?.into_inner().loaded {
        match loaded.starts_with("sha256:") {
            true => out::line(&format!("Loaded image ID: {loaded}"))?,
            false => out::line(&format!("Loaded image: {}", familiar(&loaded)))?,
        }
    }
    Ok(DONE)
}

/// Reads to the end, or until the daemon has stopped listening. A read error
/// ends the stream too: the daemon refuses an archive without its end.
fn send_chunks(
    mut archive: impl Read,
    chunks: &mpsc::Sender<LoadImagesRequest>,
) -> std::io::Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        archive
            .by_ref()
            .take(CHUNK as u64)
            .read_to_end(&mut chunk)?;
        if chunk.is_empty()
            || chunks
                .blocking_send(LoadImagesRequest {
                    chunk: chunk.into(),
                })
                .is_err()
        {
            return Ok(());
        }
    }
}
