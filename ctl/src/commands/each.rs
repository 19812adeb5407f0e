//! Commands that do one thing to each container or image that was named, go
//! on after a failed one, and exit with 1 at the end if there was any.

use proto::engine::v1::{
    KillContainerRequest, RemoveContainerRequest, RemoveImageRequest, StopContainerRequest,
    WaitContainerRequest,
};

use super::DONE;
use crate::cli::container::{KillArgs, RmArgs, StopArgs, WaitArgs};
use crate::cli::image::RmiArgs;
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;

/// Calls `act` on each name in turn and prints the line it returns.
pub(super) async fn run(
    names: &[String],
    mut act: impl AsyncFnMut(&str) -> Result<Option<String>, Failure>,
) -> Result<u8, Failure> {
    let mut failed = false;
    for name in names {
        match act(name).await {
            Ok(Some(line)) => out::line(&line)?,
            Ok(None) => {}
            Err(Failure::OutputClosed) => return Err(Failure::OutputClosed),
            Err(failure) => {
                out::report(&failure);
                failed = true;
            }
        }
    }
    if failed {
        Err(Failure::Reported)
    } else {
        Ok(DONE)
    }
}

/// `ctl stop`: prints each name as typed.
pub(crate) async fn stop(client: &mut Engine, args: &StopArgs) -> Result<u8, Failure> {
    run(&args.containers, async |container| {
        let request = StopContainerRequest {
            container: container.to_owned(),
            timeout_s: args.timeout.map(|seconds| seconds.0),
            signal: args.signal.clone().unwrap_or_default(),
        };
        client.stop_container(request).await?;
        Ok(Some(container.to_owned()))
    })
    .await
}

/// `ctl kill`: prints each name as typed.
pub(crate) async fn kill(client: &mut Engine, args: &KillArgs) -> Result<u8, Failure> {
    run(&args.containers, async |container| {
        let signal = args.signal.clone().unwrap_or_default();
        client
            .kill_container(KillContainerRequest {
                container: container.to_owned(),
                signal,
            })
            .await?;
        Ok(Some(container.to_owned()))
    })
    .await
}

/// `ctl rm`: prints each name as typed. With `-f`, what does not exist is
/// gone already, and silently so.
pub(crate) async fn rm(client: &mut Engine, args: &RmArgs) -> Result<u8, Failure> {
    run(&args.containers, async |container| {
        let request = RemoveContainerRequest {
            container: container.to_owned(),
            force: args.force,
            volumes: args.volumes,
        };
        match client
            .remove_container(request)
            .await
            .map_err(Failure::from)
        {
            Err(failure) if args.force && failure.is_not_found() => Ok(None),
            answer => answer.map(|_| Some(container.to_owned())),
        }
    })
    .await
}

/// `ctl wait`: prints each container's exit code.
pub(crate) async fn wait(client: &mut Engine, args: &WaitArgs) -> Result<u8, Failure> {
    run(&args.containers, async |container| {
        let request = WaitContainerRequest {
            container: container.to_owned(),
        };
        let answer = client.wait_container(request).await?.into_inner();
        match answer.error.is_empty() {
            true => Ok(Some(answer.exit_code.to_string())),
            false => Err(Failure::Client(answer.error)),
        }
    })
    .await
}

/// `ctl rmi`: prints what lost its name and what is gone. With `-f`, an image
/// that does not exist is told but is no failure.
pub(crate) async fn rmi(client: &mut Engine, args: &RmiArgs) -> Result<u8, Failure> {
    run(&args.images, async |image| {
        let request = RemoveImageRequest {
            image: image.to_owned(),
            force: args.force,
        };
        let answer = match client.remove_image(request).await.map_err(Failure::from) {
            Err(failure) if args.force && failure.is_not_found() => {
                out::report(&failure);
                return Ok(None);
            }
            answer => answer?.into_inner(),
        };
        for name in &answer.untagged {
            out::line(&format!("Untagged: {name}"))?;
        }
        for digest in &answer.deleted {
            out::line(&format!("Deleted: {digest}"))?;
        }
        Ok(None)
    })
    .await
}
