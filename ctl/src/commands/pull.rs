//! `ctl pull`: downloads an image, showing how far it is.

use std::io::Write;

use proto::engine::v1::{PullImageRequest, pull_image_response};

use super::DONE;
use crate::cli::image::PullArgs;
use crate::client::Engine;
use crate::credentials;
use crate::failure::Failure;
use crate::out;
use crate::parse::has_default_tag;
use crate::render::clean::clean;
use crate::render::names::familiar;
use crate::render::progress::Board;
use crate::session;

/// Which of our outputs shows the progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Stdout,
    Stderr,
}

/// Runs the command. The last line is the normalised reference; with `-q` the
/// only one.
pub(crate) async fn run(client: &mut Engine, args: &PullArgs) -> Result<u8, Failure> {
    if !args.quiet && has_default_tag(&args.reference) {
        out::line("Using default tag: latest")?;
    }
    let request = PullImageRequest {
        reference: args.reference.clone(),
        platform: args.platform.clone().unwrap_or_default(),
        auth: credentials::of_reference(&args.reference)?,
    };
    let reference = pull(client, request, Place::Stdout, args.quiet).await?;
    out::line(&reference)?;
    Ok(DONE)
}

/// Pulls and returns the normalised reference.
pub(super) async fn pull(
    client: &mut Engine,
    request: PullImageRequest,
    place: Place,
    quiet: bool,
) -> Result<String, Failure> {
    let mut board = Board::new(session::columns(place == Place::Stderr));
    let mut messages = client.pull_image(request).await?.into_inner();
    while let Some(message) = messages.message().await? {
        match message.message {
            Some(pull_image_response::Message::Progress(progress)) if !quiet => {
                show(place, &board.update(&progress))?;
            }
            Some(pull_image_response::Message::Done(done)) => {
                if !quiet {
                    show(place, &last_lines(&done))?;
                }
                return Ok(done.reference);
            }
            Some(pull_image_response::Message::Progress(_)) | None => {}
        }
    }
    Err(Failure::Setup(
        "the daemon ended the pull without a result".to_owned(),
    ))
}

fn last_lines(done: &pull_image_response::Done) -> String {
    let name = clean(familiar(&done.reference));
    let status = match done.downloaded {
        true => format!("Downloaded newer image for {name}"),
        false => format!("Image is up to date for {name}"),
    };
    format!("Digest: {}\nStatus: {status}\n", clean(&done.digest))
}

fn show(place: Place, text: &str) -> Result<(), Failure> {
    match place {
        Place::Stdout => out::text(text),
        Place::Stderr => std::io::stderr()
            .write_all(text.as_bytes())
            .map_err(|err| Failure::output(&err)),
    }
}
