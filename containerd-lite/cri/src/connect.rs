//! A pod's network: by the CNI plugins that the host is configured for, else
//! by the built-in bridge.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use cni::{Attachment, Capabilities, Directory, Network};
use lite_core::{Because, Error, Kind, Result};
use network::netns;

use crate::config::PodConfig;
use crate::hub::{Condition, Cri};
use crate::namespaces::Place;
use crate::record::{Attached, PodRecord, PodState};

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
        bandwidth: bandwidth(&config.annotations),
        cgroup_path: Some(config.cgroup_parent.clone()).filter(|path| !path.is_empty()),
        pod_annotations: config.annotations.clone(),
        ..Capabilities::default()
    }
}

/// The limits that a pod's annotations ask for, as the kubelet's own networks
/// took them; what is no number is no limit.
fn bandwidth(annotations: &BTreeMap<String, String>) -> Option<cni::attachment::Bandwidth> {
    /// What the burst of a limit is where only the rate is told.
    const BURST: u64 = i32::MAX as u64;
    let rate = |way: &str| {
        let text = annotations.get(&format!("kubernetes.io/{way}-bandwidth"))?;
        quantity(text).filter(|bits| *bits > 0)
    };
    let (ingress, egress) = (rate("ingress"), rate("egress"));
    if ingress.is_none() && egress.is_none() {
        return None;
    }
    Some(cni::attachment::Bandwidth {
        ingress_rate: ingress.unwrap_or(0),
        ingress_burst: ingress.map_or(0, |_| BURST),
        egress_rate: egress.unwrap_or(0),
        egress_burst: egress.map_or(0, |_| BURST),
    })
}

/// A whole number with one of Kubernetes' suffixes, as in `10M` or `1Gi`.
fn quantity(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor: u64 = match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
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

/// Clears away what plugins have for pods that are no more, as a daemon that
/// died while it removed one has left it, or a boot. No pod may be made
/// meanwhile: it would be taken for one that is no more. The networks of those
/// that are there are looked at in the background.
pub(crate) async fn settle(cri: &Cri) {
    let known = cri.plugins().cache().all();
    let attached = known.unwrap_or_else(|err| {
        tracing::error!(error = %err, "read what pods have of networks");
        Vec::new()
    });
    let (there, gone): (Vec<_>, Vec<_>) = attached
        .into_iter()
        .partition(|entry| cri.pod(entry.attachment.container()).is_ok());
    for entry in gone {
        let pod = entry.attachment.container();
        tracing::info!(
            pod,
            network = entry.network.name,
            "take a pod that is no more off its network"
        );
        if let Err(err) = cri.plugins().del_all(pod).await {
            tracing::warn!(pod, error = err_text(&err), "take a pod off its network");
        }
    }
    let valid = there.iter().map(|entry| {
        let attachment = &entry.attachment;
        (
            attachment.container().to_owned(),
            attachment.interface().to_owned(),
        )
    });
    let valid: Vec<_> = valid.collect();
    if let Ok(Some(network)) = configured(cri)
        && let Err(err) = cri.plugins().gc(&network, &valid).await
    {
        tracing::warn!(
            error = err_text(&err),
            "clear away what networks have for nobody"
        );
    }
    tokio::spawn(check(cri.clone(), there));
}

/// Looks at the networks of pods. What is wrong with them is for people to
/// see: a plugin that is wrong about it would end pods that do well.
async fn check(cri: Cri, attached: Vec<cni::cache::Attached>) {
    for entry in attached {
        let pod = entry.attachment.container();
        let ready = cri.pod(pod).is_ok_and(|pod| pod.state == PodState::Ready);
        if !ready || !entry.network.version.has_check() {
            continue;
        }
        let checked = cri.plugins().check(&entry.network, &entry.attachment);
        if let Err(err) = checked.await {
            tracing::warn!(
                pod,
                error = err_text(&err),
                "the network of a pod is not as it was made"
            );
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_limit_a_pods_network() {
        let limits = |pairs: &[(&str, &str)]| {
            let own = |(way, text): &(&str, &str)| {
                (format!("kubernetes.io/{way}-bandwidth"), (*text).to_owned())
            };
            bandwidth(&pairs.iter().map(own).collect())
        };
        assert_eq!(limits(&[]), None);
        assert_eq!(limits(&[("ingress", "fast"), ("egress", "0")]), None);
        let both = limits(&[("ingress", "10M"), ("egress", "1Gi")]).expect("limits");
        assert_eq!((both.ingress_rate, both.egress_rate), (10_000_000, 1 << 30));
        let one = limits(&[("egress", "500k")]).expect("a limit");
        assert_eq!((one.ingress_rate, one.ingress_burst), (0, 0));
        assert!(one.egress_rate == 500_000 && one.egress_burst > 0);
        assert_eq!(quantity("99999999999999T"), None);
    }
}
