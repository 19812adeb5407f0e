//! Makes a pod.
//!
//! 1. What was asked for is checked, and the name taken.
//! 2. The intent is recorded: from here on a daemon that dies leaves a pod
//!    that the next one takes back.
//! 3. Namespaces, network, files, and where containers share their processes
//!    a first process.
//! 4. The outcome is recorded.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::SystemTime;

use lite_core::ids::Id;
use lite_core::{Because, Kind, Result, chain};

use super::{files, pause, stop};
use crate::config::{Mode, PodConfig};
use crate::connect;
use crate::events::{Event, What};
use crate::handlers;
use crate::hub::Cri;
use crate::namespaces::Place;
use crate::record::{Attached, PodRecord, PodState};

/// Makes the pod that `config` describes, for the runtime `handler`; returns
/// its id.
///
/// # Errors
/// InvalidArgument for what cannot be; AlreadyExists for a pod of the same
/// name, uid and attempt; NotFound for a handler that is none; what kernel and
/// plugins say. Then nothing is left.
pub async fn run(cri: &Cri, config: PodConfig, handler: String) -> Result<String> {
    check(&config)?;
    handlers::find(cri, &handler)?;
    let id = Id::generate().op(|| "make an id".to_owned())?;
    let id = id.as_str().to_owned();
    let name = cri.take_name(config.metadata.unique_name(), &id)?;
    let record = PodRecord {
        id: id.clone(),
        config,
        handler,
        state: PodState::Creating,
        created_at: SystemTime::now(),
        ips: Vec::new(),
        attached: Attached::Nothing,
        pause: 0,
    };
    let cri = cri.clone();
    // On its own task: a caller that leaves half way must not leave half a pod.
    let work = tokio::spawn(async move {
        let _turn = cri.turn(&id).await;
        let record = cri.store_pod(record).await?;
        match make(&cri, &record).await {
            Ok(ready) => {
                let ready = cri.store_pod(ready).await?;
                name.keep();
                if ready.pause != 0 {
                    pause::watch(&cri, &id);
                }
                cri.emit(Event::now(What::Created, &id, &id));
                cri.emit(Event::now(What::Started, &id, &id));
                Ok(id)
            }
            Err(err) => {
                undo(&cri, &record).await;
                Err(err.within(format!("run pod {}", record.config.metadata.name)))
            }
        }
    });
    work.await
        .map_err(|join| Kind::Internal.error("run pod").because(join))?
}

/// Takes back what was made of a pod, and forgets it. The error that led here
/// is the one to tell.
pub(crate) async fn undo(cri: &Cri, record: &Arc<PodRecord>) {
    let undone = async {
        stop::take_down(cri, record).await?;
        cri.forget_pod(record).await
    };
    if let Err(err) = undone.await {
        tracing::error!(pod = record.id, error = %chain(&err), "take a pod back");
    }
}

fn check(config: &PodConfig) -> Result<()> {
    let invalid = |what: &str| Err(Kind::InvalidArgument.error(format!("pod sandbox: {what}")));
    let metadata = &config.metadata;
    if metadata.name.is_empty() || metadata.namespace.is_empty() || metadata.uid.is_empty() {
        return invalid("its metadata needs name, namespace and uid");
    }
    if config.hostname.len() > 64 {
        return invalid("its hostname is longer than 64 bytes");
    }
    if config.security.namespaces.pid == Mode::Target {
        return invalid("there is no container yet whose processes it could share");
    }
    if !config.security.namespaces.uids.is_empty() {
        return Err(Kind::Unimplemented.error("pod sandbox: user namespaces are not offered"));
    }
    Ok(())
}

async fn make(cri: &Cri, record: &PodRecord) -> Result<PodRecord> {
    let mut ready = PodRecord {
        state: PodState::Ready,
        ..record.clone()
    };
    let place = Place::at(cri.pod_dir(&record.id));
    {
        let (cri, record, place) = (cri.clone(), record.clone(), place.clone());
        lite_core::blocking(move || {
            let net = match record.on_host_network() {
                true => None,
                false => Some(
                    cri.bridge()
                        .pool
                        .take()
                        .op(|| "make a network namespace".to_owned())?,
                ),
            };
            let hostname = files::hostname(&record)?;
            place.make(&record.config, &hostname, net.as_ref().map(AsFd::as_fd))?;
            files::write(&place, &record, &hostname)
        })
        .await?;
    }
    (ready.attached, ready.ips) = connect::connect(cri, record, &place).await?;
    if !ready.ips.is_empty() {
        let hosts: (Place, Vec<IpAddr>) = (place.clone(), ready.ips.clone());
        let hostname = files::hostname(record)?;
        lite_core::blocking(move || files::write_hosts(&hosts.0, &hostname, &hosts.1)).await?;
    }
    if record.config.security.namespaces.pid == Mode::Pod && pause::is_wanted(record) {
        ready.pause = pause::start(cri, &ready).await?;
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PodMetadata;

    #[test]
    fn a_pod_needs_a_name_and_namespaces_that_exist() {
        let mut config = PodConfig::default();
        assert_eq!(check(&config).unwrap_err().kind(), Kind::InvalidArgument);
        config.metadata = PodMetadata {
            name: "n".to_owned(),
            uid: "u".to_owned(),
            namespace: "s".to_owned(),
            attempt: 0,
        };
        assert!(check(&config).is_ok());
        config.security.namespaces.pid = Mode::Target;
        assert_eq!(check(&config).unwrap_err().kind(), Kind::InvalidArgument);
        config.security.namespaces.pid = Mode::Pod;
        config.hostname = "h".repeat(65);
        assert!(check(&config).is_err());
    }
}
