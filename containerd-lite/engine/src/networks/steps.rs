//! Networks of the steps of a build, which are on the default one as containers are.

use std::path::PathBuf;

use builder::joined::{Joined, Wish};
use lite_core::Result;

use super::attach::{detach, has_names, launch};
use super::files::{Surroundings, extra_host, texts};
use crate::engine::Engine;
use crate::host_config::{Attachment, HostConfig};
use crate::record::{Config, Record};

/// Checks the hosts that steps are to know, `name:address`, and returns them.
///
/// # Errors
/// InvalidArgument for a bad one.
pub fn hosts_of_steps(typed: Vec<String>) -> Result<Vec<String>> {
    for text in &typed {
        extra_host(text)?;
    }
    Ok(typed)
}

/// Puts a step on its network.
///
/// # Errors
/// As for a container that is started.
pub(crate) fn join(engine: &Engine, wish: &Wish<'_>) -> Result<Joined> {
    let network = if wish.on_host { "host" } else { super::DEFAULT };
    let record = Record::of_step(
        wish.id,
        Config {
            hostname: "build".to_owned(),
            ..Config::default()
        },
        HostConfig {
            networks: vec![Attachment {
                network: network.to_owned(),
                ..Attachment::default()
            }],
            extra_hosts: wish.extra_hosts.to_vec(),
            ..HostConfig::default()
        },
    );
    let attached = launch(engine, &record)?;
    // From here on, dropping it takes the step off.
    let mut joined = Joined {
        netns: attached
            .as_ref()
            .map(|attached| PathBuf::from(&attached.netns)),
        hosts: String::new(),
        resolv_conf: String::new(),
        leave: attached.is_some().then(|| {
            let (engine, id) = (engine.clone(), record.id.clone());
            let leave: Box<dyn FnOnce() + Send + Sync> = Box::new(move || detach(&engine, &id));
            leave
        }),
    };
    let attached = attached.unwrap_or_default();
    let around = Surroundings {
        endpoints: &attached.endpoints,
        own_server: has_names(&attached),
        on_host: wish.on_host,
    };
    let texts = texts(engine, &record, &around)?;
    joined.hosts = texts.hosts;
    joined.resolv_conf = texts.resolv_conf;
    Ok(joined)
}
