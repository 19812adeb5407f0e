//! A pod's network: by the CNI plugins that the host is configured for, else
//! by the built-in bridge.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use cni::{Attachment, Capabilities, Directory, Network};
use lite_core::{Because, Error, Kind, Result};
use network::netns;

use crate::config::PodConfig;
use crate::hub::{Condition, Cri};
use crate::namespaces::Place;
use crate::record::{Attached, PodRecord};

/// The interface in a pod.
const INTERFACE: &str = "eth0";

/// Gives the pod its network; returns by what, and its addresses.
///
/// # Errors
/// What plugins or the kernel say. What was done is undone by [`disconnect`].
pub(crate) async fn connect(
    cri: &Cri,
    record: &PodRecord,
    place: &Place,
) -> Result<(Attached, Vec<IpAddr>)> {
    if record.on_host_network() {
        return Ok((Attached::Nothing, Vec::new()));
    }
    match configured(cri)? {
        Some(network) => by_plugins(cri, record, place, &network).await,
        None => by_bridge(cri, record, place).await,
    }
}

/// The network that the host is configured for; `None`: there is no
/// configuration.
fn configured(cri: &Cri) -> Result<Option<Network>> {
    let dir = &cri.config().cni_conf_dir;
    let mut found = Directory::read(dir).op(|| format!("read {}", dir.display()))?;
    match (found.first().cloned(), found.bad.pop()) {
        (Some(network), _) => Ok(Some(network)),
        (None, None) => Ok(None),
        (None, Some(bad)) => Err(Kind::FailedPrecondition
            .error("no network is configured well")
            .because(bad)),
    }
}

async fn by_bridge(
    cri: &Cri,
    record: &PodRecord,
    place: &Place,
) -> Result<(Attached, Vec<IpAddr>)> {
    let (cri, id, ports) = (cri.clone(), record.id.clone(), record.config.ports.clone());
    let path = place.namespace("net");
    lite_core::blocking(move || {
        let namespace = netns::open(&path).op(|| format!("open {}", path.display()))?;
        let ip = cri.bridge().join(&id, namespace.as_fd(), &ports)?;
        Ok((Attached::Bridge, vec![ip]))
    })
    .await
}

async fn by_plugins(
    cri: &Cri,
    record: &PodRecord,
    place: &Place,
    network: &Network,
) -> Result<(Attached, Vec<IpAddr>)> {
    let attachment = attachment(record, place)?;
    let outcome = cri.plugins().add(network, &attachment).await;
    let outcome = outcome.map_err(|err| failed(err, &network.name))?;
    let ips: Vec<IpAddr> = outcome.addresses_of(INTERFACE).collect();
    Ok((Attached::Plugins, ips))
}

fn attachment(record: &PodRecord, place: &Place) -> Result<Attachment> {
    let bad = |err| {
        Kind::InvalidArgument
            .error("describe the pod to plugins")
            .because(err)
    };
    let metadata = &record.config.metadata;
    let mut attachment = Attachment::new(&record.id, INTERFACE)
        .map_err(bad)?
        .in_netns(&place.namespace("net"));
    for (key, value) in [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", metadata.namespace.as_str()),
        ("K8S_POD_NAME", &metadata.name),
        ("K8S_POD_INFRA_CONTAINER_ID", &record.id),
        ("K8S_POD_UID", &metadata.uid),
    ] {
        attachment = attachment.with_arg(key, value).map_err(bad)?;
    }
    Ok(attachment.with_capabilities(capabilities(&record.config)))
}

fn capabilities(config: &PodConfig) -> Capabilities {
    let published = config.ports.iter().filter(|port| port.host_port != 0);
    Capabilities {
        port_mappings: published
            .map(|port| cni::attachment::PortMapping {
                host_port: port.host_port,
                container_port: port.container_port,
                protocol: port.protocol.clone(),
                host_ip: port.host_ip.clone(),
            })
            .collect(),
        dns: config
            .dns
            .as_ref()
            .map(|dns| cni::attachment::DnsCapability {
                servers: dns.servers.clone(),
                searches: dns.searches.clone(),
                options: dns.options.clone(),
            }),
        cgroup_path: Some(config.cgroup_parent.clone()).filter(|path| !path.is_empty()),
        pod_annotations: config.annotations.clone(),
        ..Capabilities::default()
    }
}

/// Takes the pod off its network; one that is on none is fine.
///
/// # Errors
/// What plugins or the kernel say.
pub(crate) async fn disconnect(cri: &Cri, record: &Arc<PodRecord>, place: &Place) -> Result<()> {
    if record.on_host_network() {
        return Ok(());
    }
    if !place.is_pinned() {
        // Plugins take a path where there is nothing for what it is, but not a
        // file that is no namespace any more.
        let path = place.namespace("net");
        netns::unpin(&path).op(|| format!("remove {}", path.display()))?;
    }
    // By what plugins were told, whatever the configuration is now; a pod that
    // was cut short does not say by what it was connected.
    if record.attached != Attached::Bridge {
        let gone = cri.plugins().del_all(&record.id).await;
        gone.map_err(|err| failed(err, "of the pod"))?;
    }
    if record.attached != Attached::Plugins {
        let (cri, id) = (cri.clone(), record.id.clone());
        lite_core::blocking(move || cri.bridge().leave(&id)).await?;
    }
    Ok(())
}

/// Whether pods get a network.
pub(crate) async fn condition(cri: &Cri) -> Condition {
    let fault = match configured(cri) {
        Ok(None) => None,
        Ok(Some(network)) => {
            let status = cri.plugins().status(&network).await;
            status.err().map(|err| err_text(&err))
        }
        Err(err) => Some(lite_core::chain(&err)),
    };
    Condition {
        name: "NetworkReady",
        fault: fault.map(|text| ("NetworkPluginNotReady", text)),
    }
}

fn err_text(err: &dyn std::error::Error) -> String {
    std::iter::successors(Some(err), |&err| err.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn failed(err: cni::Error, network: &str) -> Error {
    Kind::Unknown
        .error(format!("network {network}"))
        .because(err)
}
