//! Puts a container on its networks, and takes it off again.
//!
//! 1. A namespace is taken from the pool and pinned to a file, so that it
//!    outlives the daemon.
//! 2. Under the fabric's lock: addresses and ports are taken, bridges made
//!    where they are missing, the container is tied to each, and the firewall
//!    is told.
//! 3. Where a network has names, a name server is put into the namespace.
//!
//! On failure everything is taken back. What a daemon that was killed in the
//! middle has left is found by [`restore`].

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lite_core::{Because, Error, Kind, Result, chain};
use network::link::{self, Mac, Pair};
use network::{netns, resolver};

use super::definition::{Definition, mac_text, parse_mac};
use super::fabric::{Attached, Endpoint, State};
use super::names::View;
use super::{Mode, mode};
use crate::engine::Engine;
use crate::host_config::Attachment;
use crate::ports::{self, Binding, Port};
use crate::record::Record;
use lite_core::ids::Id;

/// Digits of a link's name that are its own, beside what tells ours from those
/// of another daemon; all of it at most 15 bytes.
const LINK_DIGITS: usize = 9;

fn netns_path(engine: &Engine, id: &str) -> PathBuf {
    engine.config().state.join("netns").join(id)
}

/// Puts the container on its networks; `None` where it is on none.
///
/// # Errors
/// NotFound for a network; FailedPrecondition for an address or port that is
/// taken; what the kernel says. Then nothing is left.
pub(crate) fn launch(engine: &Engine, record: &Record) -> Result<Option<Attached>> {
    let Mode::Networks(networks) = mode(&record.host) else {
        return Ok(None);
    };
    let path = netns_path(engine, &record.id);
    // One that a start which was cut short has left.
    netns::unpin(&path).op(|| format!("remove {}", path.display()))?;
    let namespace = engine
        .fabric()
        .pool
        .take()
        .op(|| "make a network namespace".to_owned())?;
    netns::pin(namespace.as_fd(), &path)
        .op(|| format!("pin a network namespace to {}", path.display()))?;
    let tied = tie(engine, record, &networks, &namespace, path.clone());
    if tied.is_err() {
        detach(engine, &record.id);
        // Not entered yet, when the first step failed.
        let _ = netns::unpin(&path);
    }
    tied.map(Some)
}

fn tie(
    engine: &Engine,
    record: &Record,
    networks: &[Attachment],
    namespace: &OwnedFd,
    path: PathBuf,
) -> Result<Attached> {
    let fabric = engine.fabric();
    let mut state = fabric.state();
    let (ports, reserved) = state
        .publish(&bindings(record)?)
        .map_err(|err| connectivity(record, err))?;
    let attached = Attached {
        netns: path,
        endpoints: Vec::new(),
        ports,
    };
    state.enter(&record.id, attached, reserved);
    for attachment in networks {
        add_endpoint(
            &mut state,
            &link_prefix(engine),
            record,
            attachment,
            namespace,
        )?;
    }
    state
        .tell_firewall(false)
        .map_err(|err| connectivity(record, err))?;
    let attached = state
        .attached
        .get(&record.id)
        .map(|live| live.attached.clone())
        .unwrap_or_default();
    drop(state);
    save(&attached)?;
    fabric.names.set(&record.id, attached.endpoints.clone());
    serve_names(engine, record, &attached, namespace)?;
    Ok(attached)
}

/// The file beside the namespace's that says what it has. It ends with the
/// machine's run, as the namespace does, so nothing is synced.
fn saved(netns: &Path) -> PathBuf {
    netns.with_extension("json")
}

/// Writes down what a container has, for the next daemon.
///
/// # Errors
/// Those of writing.
pub(super) fn save(attached: &Attached) -> Result<()> {
    let path = saved(&attached.netns);
    let bytes = serde_json::to_vec(attached)
        .map_err(|err| Kind::Internal.error("encode networks").because(err))?;
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, bytes)
        .and_then(|()| std::fs::rename(&fresh, &path))
        .op(|| format!("write {}", path.display()))
}

fn read_saved(engine: &Engine, id: &str) -> Option<Attached> {
    let path = saved(&netns_path(engine, id));
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .inspect_err(|err| tracing::warn!(container_id = id, error = %err, "read networks"))
            .ok(),
        // It is on none.
        Err(_) => None,
    }
}

/// Docker's words around a port that cannot be had.
fn connectivity(record: &Record, err: Error) -> Error {
    Kind::error(
        err.kind(),
        format!(
            "driver failed programming external connectivity on endpoint {}: {}",
            record.name,
            chain(&err)
        ),
    )
}

/// The ports to publish: those that were named, with `-P` all that are exposed.
fn bindings(record: &Record) -> Result<Vec<Binding>> {
    let mut bindings = Vec::new();
    for text in &record.host.publish {
        bindings.extend(ports::publish(text)?);
    }
    if record.host.publish_all {
        for text in &record.config.exposed_ports {
            for port in ports::expose(text)? {
                if !bindings
                    .iter()
                    .any(|binding: &Binding| binding.port == port)
                {
                    bindings.push(any(port));
                }
            }
        }
    }
    Ok(bindings)
}

fn any(port: Port) -> Binding {
    Binding {
        port,
        host_ip: None,
        host: None,
    }
}

/// Host ends of this daemon's pairs begin so.
pub(super) fn link_prefix(engine: &Engine) -> String {
    format!("v{:04x}-", engine.instance())
}

/// Ties the container to one more network.
///
/// # Errors
/// As for [`launch`].
pub(super) fn add_endpoint(
    state: &mut State,
    link_prefix: &str,
    record: &Record,
    attachment: &Attachment,
    namespace: &OwnedFd,
) -> Result<()> {
    let network = state.find(&attachment.network)?;
    let wanted = [attachment.ip.clone(), attachment.ip6.clone()];
    let addresses = state.addresses(&network, &wanted)?;
    let random = Id::generate().op(|| "make an id".to_owned())?;
    let mac = match parse_mac(&attachment.mac) {
        Some(mac) => mac,
        None => invent_mac(&random),
    };
    let so_far = state
        .attached
        .get(&record.id)
        .map_or(&[][..], |live| &live.attached.endpoints);
    // The first network that leads anywhere is the way out.
    let has_way_out = so_far.iter().any(|endpoint| !endpoint.gateways.is_empty());
    let gateways = if network.internal || has_way_out {
        Vec::new()
    } else {
        network
            .subnets()
            .into_iter()
            .filter_map(|(_, gateway)| gateway)
            .collect()
    };
    let interface = (0..)
        .map(|number| format!("eth{number}"))
        .find(|name| !so_far.iter().any(|endpoint| endpoint.interface == *name))
        .unwrap_or_default();
    state.bring_up(&network)?;
    let pair = Pair {
        host: format!("{link_prefix}{}", &random.as_str()[..LINK_DIGITS]),
        container: interface.clone(),
        bridge: network.bridge_name(),
        mac,
        addresses: addresses.clone(),
        gateways: gateways.clone(),
        mtu: network.mtu(),
    };
    link::connect(&pair, namespace.as_fd()).op(|| {
        format!(
            "connect container {} to network {}",
            record.name, network.name
        )
    })?;
    let endpoint = Endpoint {
        network: network.id.clone(),
        id: random.as_str().to_owned(),
        link: pair.host,
        interface,
        mac: mac_text(mac),
        addresses,
        gateways,
        names: names(record, attachment, &network),
    };
    if let Some(live) = state.attached.get_mut(&record.id) {
        live.attached.endpoints.push(endpoint);
    }
    Ok(())
}

/// A locally administered address out of random digits.
fn invent_mac(random: &Id) -> Mac {
    let mut mac = [0x02, 0, 0, 0, 0, 0];
    let digits = random.as_str().as_bytes();
    for (byte, pair) in mac.iter_mut().skip(1).zip(digits.chunks(2).skip(8)) {
        let text = std::str::from_utf8(pair).unwrap_or("0");
        *byte = u8::from_str_radix(text, 16).unwrap_or(0);
    }
    mac
}

/// What the container is called on the network: its name, its aliases, the
/// beginning of its id. The default network knows no names.
fn names(record: &Record, attachment: &Attachment, network: &Definition) -> Vec<String> {
    if network.is_default() {
        return Vec::new();
    }
    let short = record.id.get(..12).unwrap_or(&record.id).to_owned();
    let mut names = vec![record.name.clone()];
    for name in attachment
        .aliases
        .iter()
        .chain([&short, &record.config.hostname])
    {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Puts a name server into the namespace, where a network of the container has
/// names.
pub(super) fn serve_names(
    engine: &Engine,
    record: &Record,
    attached: &Attached,
    namespace: &OwnedFd,
) -> Result<()> {
    if !has_names(attached) {
        return Ok(());
    }
    let view = View {
        names: Arc::clone(&engine.fabric().names),
        container: record.id.clone(),
        servers: record
            .host
            .dns
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect(),
        closed: attached
            .endpoints
            .iter()
            .all(|endpoint| endpoint.gateways.is_empty()),
    };
    let server = resolver::serve(namespace.as_fd(), Arc::new(view))
        .op(|| format!("start the name server of container {}", record.name))?;
    if let Some(live) = engine.fabric().state().attached.get_mut(&record.id) {
        live.server = Some(server);
    }
    Ok(())
}

/// Whether a network of the container knows names.
pub(crate) fn has_names(attached: &Attached) -> bool {
    attached
        .endpoints
        .iter()
        .any(|endpoint| !endpoint.names.is_empty())
}

/// Takes the container off all of its networks; one that is on none is fine.
pub(crate) fn detach(engine: &Engine, id: &str) {
    let fabric = engine.fabric();
    let mut state = fabric.state();
    let Some(live) = state.leave(id) else {
        return;
    };
    fabric.names.set(id, Vec::new());
    tracing::debug!(container_id = id, ports = live.reserved(), "leave networks");
    for endpoint in &live.attached.endpoints {
        if let Err(err) = link::remove(&endpoint.link) {
            tracing::warn!(container_id = id, link = endpoint.link, error = %err, "remove link");
        }
    }
    let removed = netns::unpin(&live.attached.netns).and_then(|()| {
        match std::fs::remove_file(saved(&live.attached.netns)) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    });
    if let Err(err) = removed {
        tracing::warn!(container_id = id, error = %err, "unpin network namespace");
    }
    if let Err(err) = state.tell_firewall(false) {
        tracing::warn!(container_id = id, error = %chain(&err), "after leaving networks");
    }
    state.bring_down_unused();
}

/// Puts together again what an earlier daemon has left: `running` containers
/// keep what they have, everything else goes.
pub(crate) fn restore(engine: &Engine, running: &[Record]) {
    let fabric = engine.fabric();
    let mut state = fabric.state();
    let mut kept: BTreeMap<String, (OwnedFd, Attached)> = BTreeMap::new();
    for record in running {
        let Some(attached) = read_saved(engine, &record.id) else {
            continue;
        };
        match netns::open(&attached.netns) {
            Ok(namespace) => {
                kept.insert(record.id.clone(), (namespace, attached.clone()));
            }
            Err(err) => {
                tracing::warn!(container_id = record.id, error = %err, "open network namespace");
            }
        }
        fabric.names.set(&record.id, attached.endpoints.clone());
        state.enter_again(&record.id, attached);
    }
    sweep(engine, &mut state, &kept);
    let in_use: Vec<Definition> = state.networks.values().cloned().collect();
    for network in in_use.iter().filter(|network| network.driver == "bridge") {
        let outcome = if state.users(&network.id).is_empty() {
            state
                .drop_bridge(network)
                .op(|| format!("remove bridge {}", network.bridge_name()))
        } else {
            state.bring_up(network)
        };
        if let Err(err) = outcome {
            tracing::warn!(network = network.name, error = %chain(&err), "restore network");
        }
    }
    // The table of an earlier daemon is there, or was flushed meanwhile.
    if let Err(err) = state.tell_firewall(!kept.is_empty()) {
        tracing::warn!(error = %chain(&err), "restore the firewall's rules");
    }
    drop(state);
    for record in running {
        if let Some((namespace, attached)) = kept.get(&record.id)
            && let Err(err) = serve_names(engine, record, attached, namespace)
        {
            tracing::warn!(container_id = record.id, error = %chain(&err), "restore name server");
        }
    }
}

/// Removes namespaces and links that no running container has.
fn sweep(engine: &Engine, state: &mut State, kept: &BTreeMap<String, (OwnedFd, Attached)>) {
    let dir = engine.config().state.join("netns");
    let pinned = std::fs::read_dir(&dir).into_iter().flatten().flatten();
    for entry in pinned {
        let path = entry.path();
        let id = path.file_stem().and_then(std::ffi::OsStr::to_str);
        let is_kept = id.is_some_and(|id| kept.contains_key(id));
        if !is_kept && let Err(err) = netns::unpin(&entry.path()) {
            tracing::warn!(path = %entry.path().display(), error = %err, "unpin network namespace");
        }
    }
    let used: Vec<String> = state
        .attached
        .values()
        .flat_map(|live| {
            live.attached
                .endpoints
                .iter()
                .map(|endpoint| endpoint.link.clone())
        })
        .collect();
    let links = link::named(&link_prefix(engine)).unwrap_or_default();
    for name in links.iter().filter(|name| !used.contains(name)) {
        if let Err(err) = link::remove(name) {
            tracing::warn!(link = name, error = %err, "remove link");
        }
    }
}
