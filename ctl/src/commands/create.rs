//! `ctl create`: makes a container and prints its id.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use proto::engine::v1::{CreateContainerRequest, PullImageRequest};

use super::{DONE, host, pull, variables};
use crate::cli::container::{ContainerSettings, CreateArgs};
use crate::client::Engine;
use crate::credentials;
use crate::failure::{Failure, reason};
use crate::out;
use crate::parse::{Pull, has_default_tag};
use crate::render::names::familiar;

/// Runs the command.
pub(crate) async fn run(client: &mut Engine, args: &CreateArgs) -> Result<u8, Failure> {
    let id = create(client, &args.settings, false).await?;
    out::line(&id)?;
    Ok(DONE)
}

/// Creates the container, pulling its image as `--pull` says, and returns its
/// id. With `once`, standard input closes when the client leaves.
pub(super) async fn create(
    client: &mut Engine,
    settings: &ContainerSettings,
    once: bool,
) -> Result<String, Failure> {
    let request = request(settings, once)?;
    let id_file = settings.cidfile.as_deref().map(IdFile::claim).transpose()?;
    let when = settings.pull.unwrap_or(Pull::Missing);
    if when == Pull::Always {
        pull_image(client, settings, &request.image).await?;
    }
    let created = match client
        .create_container(request.clone())
        .await
        .map_err(Failure::from)
    {
        Err(failure) if failure.is_not_found() && when == Pull::Missing => {
            if !settings.quiet {
                let tag = if has_default_tag(&request.image) {
                    ":latest"
                } else {
                    ""
                };
                let name = format!("{}{tag}", familiar(&request.image));
                out::complain(&format!("Unable to find image '{name}' locally\n"));
            }
            pull_image(client, settings, &request.image).await?;
            client.create_container(request).await?
        }
        answer => answer?,
    }
    .into_inner();
    for warning in &created.warnings {
        out::complain(&format!(
            "WARNING: {}\n",
            crate::render::clean::clean(warning)
        ));
    }
    if let Some(file) = id_file {
        file.keep(&created.id)?;
    }
    Ok(created.id)
}

async fn pull_image(
    client: &mut Engine,
    settings: &ContainerSettings,
    image: &str,
) -> Result<(), Failure> {
    let request = PullImageRequest {
        reference: image.to_owned(),
        platform: settings.platform.clone().unwrap_or_default(),
        auth: credentials::of_reference(image)?,
    };
    // stdout belongs to the container, or to its id.
    pull::pull(client, request, pull::Place::Stderr, settings.quiet)
        .await
        .map(|_| ())
}

fn request(settings: &ContainerSettings, once: bool) -> Result<CreateContainerRequest, Failure> {
    let Some((image, command)) = settings.image_and_command.split_first() else {
        return Err(Failure::Typed("an image is needed".to_owned()));
    };
    let restarts = settings.host.limits.restart.as_deref().unwrap_or("no");
    if settings.rm && !matches!(restarts, "" | "no") {
        return Err(Failure::Typed(
            "conflicting options: cannot specify both --restart and --rm".to_owned(),
        ));
    }
    if settings.host.gpus.is_some() {
        return Err(Failure::Typed(
            "could not select device driver \"\" with capabilities: [[gpu]]: GPUs are not passed on, use --device for the files below /dev".to_owned(),
        ));
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Ok(CreateContainerRequest {
        name: text(&settings.name),
        image: image.clone(),
        command: command.to_vec(),
        entrypoint: settings.entrypoint.iter().cloned().collect(),
        env: variables(&settings.env_file, &settings.env)?,
        workdir: text(&settings.workdir),
        user: text(&settings.user),
        hostname: text(&settings.hostname),
        tty: settings.tty,
        stdin: settings.interactive,
        stdin_once: settings.interactive && once,
        auto_remove: settings.rm,
        labels: host::labels(&settings.host, &settings.label)?,
        runtime: text(&settings.runtime),
        stop_signal: text(&settings.stop_signal),
        stop_timeout_s: settings.stop_timeout.map(|seconds| seconds.0),
        host: Some(host::host_config(&settings.host)?),
        health: host::health(&settings.host)?,
        expose: settings.host.expose.clone(),
        domainname: text(&settings.host.domainname),
    })
}

/// The file of `--cidfile`: claimed before anything is made, and gone again
/// if nothing is.
struct IdFile<'a> {
    path: &'a Path,
    file: std::fs::File,
    kept: bool,
}

impl<'a> IdFile<'a> {
    fn claim(path: &'a Path) -> Result<Self, Failure> {
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => Ok(Self {
                path,
                file,
                kept: false,
            }),
            Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Failure::Typed(format!(
                    "container ID file found, make sure the other container isn't running or delete {}",
                    path.display()
                )))
            }
            Err(err) => Err(Failure::Typed(format!(
                "create the container ID file {}: {}",
                path.display(),
                reason(&err)
            ))),
        }
    }

    fn keep(mut self, id: &str) -> Result<(), Failure> {
        self.kept = true;
        self.file
            .write_all(id.as_bytes())
            .map_err(|err| Failure::io(format!("write {}", self.path.display()), &err))
    }
}

impl Drop for IdFile<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(self.path);
        }
    }
}
