//! Commands that change containers: pause, unpause, restart, rename, update,
//! and images made of them.

use proto::engine::v1::{
    CommitContainerRequest, ContainerRequest, RenameContainerRequest, StopContainerRequest,
    UpdateContainerRequest,
};

use super::{DONE, each, host};
use crate::cli::change::{CommitArgs, PauseArgs, RenameArgs, RestartArgs, UnpauseArgs, UpdateArgs};
use crate::client::Engine;
use crate::failure::Failure;
use crate::out;
use crate::render::clean::clean;

/// `ctl pause`: prints each name as typed.
pub(crate) async fn pause(client: &mut Engine, args: &PauseArgs) -> Result<u8, Failure> {
    each::run(&args.containers, async |container| {
        let container = container.to_owned();
        let request = ContainerRequest {
            container: container.clone(),
        };
        client.pause_container(request).await?;
        Ok(Some(container))
    })
    .await
}

/// `ctl unpause`: prints each name as typed.
pub(crate) async fn unpause(client: &mut Engine, args: &UnpauseArgs) -> Result<u8, Failure> {
    each::run(&args.containers, async |container| {
        let container = container.to_owned();
        let request = ContainerRequest {
            container: container.clone(),
        };
        client.unpause_container(request).await?;
        Ok(Some(container))
    })
    .await
}

/// `ctl restart`: prints each name as typed.
pub(crate) async fn restart(client: &mut Engine, args: &RestartArgs) -> Result<u8, Failure> {
    each::run(&args.containers, async |container| {
        let request = StopContainerRequest {
            container: container.to_owned(),
            timeout_s: args.timeout.map(|seconds| seconds.0),
            signal: args.signal.clone().unwrap_or_default(),
        };
        client.restart_container(request).await?;
        Ok(Some(container.to_owned()))
    })
    .await
}

/// `ctl rename`: prints nothing.
pub(crate) async fn rename(client: &mut Engine, args: &RenameArgs) -> Result<u8, Failure> {
    let request = RenameContainerRequest {
        container: args.container.clone(),
        name: args.name.clone(),
    };
    client.rename_container(request).await?;
    Ok(DONE)
}

/// `ctl commit`: prints the new image's id.
pub(crate) async fn commit(client: &mut Engine, args: &CommitArgs) -> Result<u8, Failure> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let request = CommitContainerRequest {
        container: args.container.clone(),
        reference: text(&args.reference),
        author: text(&args.author),
        message: text(&args.message),
        changes: args.change.clone(),
        no_pause: args.pause == Some(false),
    };
    out::line(&client.commit_container(request).await?.into_inner().id)?;
    Ok(DONE)
}

/// `ctl update`: prints each name as typed, and warnings after all of them.
pub(crate) async fn update(client: &mut Engine, args: &UpdateArgs) -> Result<u8, Failure> {
    let resources = host::limits(&args.limits);
    let restart = args.limits.restart.clone().unwrap_or_default();
    let mut warnings = Vec::new();
    let outcome = each::run(&args.containers, async |container| {
        let request = UpdateContainerRequest {
            container: container.to_owned(),
            resources: Some(resources.clone()),
            restart: restart.clone(),
        };
        let answer = client.update_container(request).await?.into_inner();
        warnings.extend(answer.warnings);
        Ok(Some(container.to_owned()))
    })
    .await;
    for warning in &warnings {
        out::complain(&format!("WARNING: {}\n", clean(warning)));
    }
    outcome
}
