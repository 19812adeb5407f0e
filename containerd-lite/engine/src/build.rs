//! Builds: the builder over this engine's core. A step is a container of the engine's with another process in it.

use builder::BuilderConfig;
use builder::joined::Join;
use lite_core::{Kind, Reference, Result};
use serde_json::Value;

use crate::engine::Engine;
use crate::host_config::{HostConfig, Resources};
use crate::networks;
use crate::record::Config;
use crate::rights::Rights;
use crate::spec::{self, Inputs, Space, Spaces};
use crate::user::User;

pub use builder::client::{Ask, Client, Listed};
pub use builder::news::{News, Teller};
pub use builder::ops::Network;
pub use builder::stages::Options;
pub use builder::{Builder, Exported, Request};

/// The time of files and images where nobody says one: the first that zip archives can hold, 1980-01-01. One fixed time, so
/// that the same inputs make the same image.
pub const DEFAULT_TIME_S: i64 = 315_532_800;

/// Opens the builder, ending what builds of an earlier daemon left.
///
/// # Errors
/// Those of the file system and the database.
pub async fn open(engine: &Engine) -> Result<Builder> {
    let config = BuilderConfig {
        root: engine.config().root.join("builder"),
        state: engine.config().state.join("builds"),
        cgroup_parent: engine.config().cgroup_parent.clone(),
        runtime: engine.config().default_runtime.clone(),
        join: {
            let engine = engine.clone();
            Join::new(move |wish| networks::join(&engine, wish))
        },
    };
    let opened = {
        let engine = engine.clone();
        lite_core::blocking(move || Builder::open(engine.core(), engine.ns(), config)).await?
    };
    opened.recover().await;
    Ok(opened)
}

/// The names of an image, completed by Docker's rules.
///
/// # Errors
/// InvalidArgument for what is no name.
pub fn names(typed: &[String]) -> Result<Vec<String>> {
    let full = |name: &String| match Reference::parse(name) {
        Ok(reference) => Ok(reference.to_string()),
        Err(err) => Err(Kind::InvalidArgument
            .error(format!("invalid tag {name:?}"))
            .because(err)),
    };
    typed.iter().map(full).collect()
}

/// The spec of steps: that of a container that asks for nothing but a size of `/dev/shm` in bytes and limits,
/// `name=soft[:hard]`.
///
/// # Errors
/// InvalidArgument for a limit that is none.
pub fn template(engine: &Engine, shm_bytes: Option<u64>, ulimits: Vec<String>) -> Result<Value> {
    let host_config = HostConfig {
        shm_bytes,
        resources: Resources {
            ulimits,
            ..Resources::default()
        },
        ..HostConfig::default()
    };
    spec::build(&Inputs {
        config: &Config {
            hostname: "build".to_owned(),
            ..Config::default()
        },
        host_config: &host_config,
        rights: &Rights::of(&host_config, engine.host().last_capability)?,
        mounts: &[],
        devices: &[],
        spaces: &Spaces {
            network: Space::Own,
            pid: Space::Own,
            ipc: Space::Own,
        },
        user: &User::default(),
        host: engine.host(),
        cgroups_path: "",
        files: std::path::Path::new(""),
        init: None,
    })
}
