//! The use cases of networks: create, list, inspect, remove, prune, connect,
//! disconnect.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::SystemTime;

use lite_core::{Because, Error, Kind, Result};
use network::{Subnet, link, netns, subnet};
use serde_json::{Value, json};

use super::attach::{add_endpoint, link_prefix, save, serve_names};
use super::definition::{Definition, Range};
use super::fabric::{Endpoint, State};
use super::{DEFAULT, KIND, Mode, mode};
use crate::engine::Engine;
use crate::events::Event;
use crate::host_config::Attachment;
use crate::list_filter::Filter;
use crate::record::Record;
use crate::state::Phase;
use crate::volumes::Pruned;
use lite_core::ids::Id;

/// A network to be made. Empty means "not given".
#[derive(Debug, Clone, Default)]
pub struct CreateNetwork {
    /// Its name.
    pub name: String,
    /// `bridge`.
    pub driver: String,
    /// Its addresses.
    pub ipam: Vec<Ipam>,
    /// Nothing goes in or out.
    pub internal: bool,
    /// It has IPv6, too.
    pub ipv6: bool,
    /// Of the driver.
    pub options: BTreeMap<String, String>,
    /// The user's.
    pub labels: BTreeMap<String, String>,
}

/// Addresses as asked for.
#[derive(Debug, Clone, Default)]
pub struct Ipam {
    /// The subnet.
    pub subnet: String,
    /// The bridge's own address.
    pub gateway: String,
    /// Where addresses are given out.
    pub range: String,
    /// Addresses that are for nobody.
    pub reserved: BTreeMap<String, String>,
}

fn invalid(text: impl Into<String>) -> Error {
    Kind::InvalidArgument.error(text.into())
}

/// Makes a network. Its bridge is made with its first container.
///
/// # Errors
/// InvalidArgument for what cannot be; AlreadyExists; ResourceExhausted when
/// there is no subnet left.
pub async fn create(engine: &Engine, request: CreateNetwork) -> Result<Value> {
    let engine = engine.clone();
    lite_core::blocking(move || make(&engine, &request).map(|network| network.json())).await
}

fn make(engine: &Engine, request: &CreateNetwork) -> Result<Definition> {
    check(request)?;
    let id = Id::generate().op(|| "make an id".to_owned())?;
    let mut state = engine.fabric().state();
    if state
        .networks
        .values()
        .any(|other| other.name == request.name)
    {
        return Err(
            Kind::AlreadyExists.error(format!("network with name {} already exists", request.name))
        );
    }
    let ranges = ranges(&state, request)?;
    let network = Definition {
        id: id.as_str().to_owned(),
        name: request.name.clone(),
        driver: "bridge".to_owned(),
        created_at: Some(SystemTime::now()),
        ranges,
        internal: request.internal,
        ipv6: request.ipv6,
        options: request.options.clone(),
        labels: request.labels.clone(),
        predefined: false,
    };
    store(engine, &network)?;
    state.networks.insert(network.id.clone(), network.clone());
    drop(state);
    engine.emit(
        Event::now("network", "create", &network.id)
            .with("name", &network.name)
            .with("type", "bridge"),
    );
    Ok(network)
}

/// Writes a network's document.
pub(super) fn store(engine: &Engine, network: &Definition) -> Result<()> {
    let bytes = serde_json::to_vec(network)
        .map_err(|err| Kind::Internal.error("encode network").because(err))?;
    engine
        .core()
        .documents
        .put(engine.ns(), KIND, &network.id, &bytes)
}

fn check(request: &CreateNetwork) -> Result<()> {
    let name = request.name.as_str();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.bytes().all(allowed) {
        return Err(invalid(format!(
            "invalid network name: {name:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    if !matches!(request.driver.as_str(), "" | "bridge") {
        return Err(Kind::NotFound.error(format!(
            "plugin {:?} not found: the only driver of networks is \"bridge\"",
            request.driver
        )));
    }
    if let Some(bridge) = request.options.get("com.docker.network.bridge.name")
        && (bridge.is_empty() || bridge.len() > 15)
    {
        return Err(invalid(format!(
            "invalid bridge name {bridge:?}: expected 1 to 15 bytes"
        )));
    }
    Ok(())
}

/// The addresses asked for, or free ones.
fn ranges(state: &State, request: &CreateNetwork) -> Result<Vec<Range>> {
    let routed = link::routed().op(|| "read the host's routes".to_owned())?;
    let used: Vec<Subnet> = state
        .networks
        .values()
        .flat_map(Definition::subnets)
        .map(|(subnet, _)| subnet)
        .collect();
    let mut ranges = Vec::new();
    for ipam in request.ipam.iter().filter(|ipam| !ipam.subnet.is_empty()) {
        let range = range(ipam)?;
        let subnet: Subnet = range
            .subnet
            .parse()
            .map_err(|err| invalid(format!("{err}")))?;
        if used.iter().any(|other| other.overlaps(&subnet)) {
            return Err(invalid(
                "invalid pool request: Pool overlaps with other one on this address space",
            ));
        }
        ranges.push((subnet.is_ipv6(), range));
    }
    let given = |v6: bool, ranges: &[(bool, Range)]| ranges.iter().any(|(is_v6, _)| *is_v6 == v6);
    let is_free = |subnet: &Subnet| {
        !used
            .iter()
            .chain(&routed)
            .any(|other| other.overlaps(subnet))
    };
    if !given(false, &ranges) {
        let subnet = subnet::pool().find(is_free).ok_or_else(|| {
            Kind::ResourceExhausted.error(
                "all predefined address pools have been fully subnetted: remove unused networks or name a --subnet",
            )
        })?;
        ranges.push((false, with_gateway(subnet)));
    }
    if request.ipv6 && !given(true, &ranges) {
        let random =
            getrandom::u64().map_err(|err| Kind::Internal.error("choose a subnet").because(err))?;
        let subnet = subnet::unique_local(random.to_ne_bytes())
            .ok_or_else(|| Kind::Internal.error("choose a subnet"))?;
        ranges.push((true, with_gateway(subnet)));
    }
    ranges.sort_by_key(|(is_v6, _)| *is_v6);
    Ok(ranges.into_iter().map(|(_, range)| range).collect())
}

fn with_gateway(subnet: Subnet) -> Range {
    Range {
        subnet: subnet.to_string(),
        gateway: subnet.nth(1).map_or_else(String::new, |ip| ip.to_string()),
        range: String::new(),
        reserved: BTreeMap::new(),
    }
}

fn range(ipam: &Ipam) -> Result<Range> {
    let subnet: Subnet = ipam
        .subnet
        .parse()
        .map_err(|err| invalid(format!("invalid subnet: {err}")))?;
    let inside = |what: &str, text: &str| -> Result<()> {
        let address: IpAddr = text
            .parse()
            .map_err(|_| invalid(format!("invalid {what}: {text}")))?;
        if subnet.contains(address) {
            Ok(())
        } else {
            Err(invalid(format!("no matching subnet for {what} {text}")))
        }
    };
    let mut range = with_gateway(subnet);
    if !ipam.gateway.is_empty() {
        inside("gateway", &ipam.gateway)?;
        range.gateway.clone_from(&ipam.gateway);
    }
    if !ipam.range.is_empty() {
        let part: Subnet = ipam
            .range
            .parse()
            .map_err(|err| invalid(format!("invalid ip-range: {err}")))?;
        if !subnet.overlaps(&part) || part.prefix() < subnet.prefix() {
            return Err(invalid(format!(
                "no matching subnet for range {}",
                ipam.range
            )));
        }
        range.range = part.to_string();
    }
    for address in ipam.reserved.values() {
        inside("aux-address", address)?;
    }
    range.reserved.clone_from(&ipam.reserved);
    Ok(range)
}

/// The networks that `filters` let through, by name.
///
/// # Errors
/// InvalidArgument for a filter there is not.
pub fn list(engine: &Engine, filters: &[String]) -> Result<Vec<Value>> {
    let filter = Filter::parse(
        filters,
        &["dangling", "driver", "id", "label", "name", "scope", "type"],
    )?;
    let dangling = filter.switch("dangling")?;
    let state = engine.fabric().state();
    let mut found: Vec<&Definition> = state
        .networks
        .values()
        .filter(|network| {
            let unused = !network.predefined && state.users(&network.id).is_empty();
            dangling.is_none_or(|wanted| wanted == unused)
                && filter.any("driver", |value| value == network.driver)
                && filter.any("id", |value| network.id.starts_with(value))
                && filter.any("name", |value| network.name.contains(value))
                && filter.any("scope", |value| value == "local")
                && filter.any("type", |value| (value == "builtin") == network.predefined)
                && filter.labels(&network.labels)
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found.into_iter().map(Definition::json).collect())
}

/// One network with the containers on it.
///
/// # Errors
/// NotFound.
pub fn inspect(engine: &Engine, typed: &str) -> Result<Value> {
    let network = engine.fabric().find(typed)?;
    let names: HashMap<String, String> = engine
        .handles()
        .iter()
        .map(|handle| (handle.record().id.clone(), handle.record().name.clone()))
        .collect();
    let state = engine.fabric().state();
    let mut object = network.json();
    for (id, live) in &state.attached {
        let on_it = live
            .attached
            .endpoints
            .iter()
            .filter(|e| e.network == network.id);
        for endpoint in on_it {
            let address = |v4: bool| {
                let mut own = endpoint
                    .addresses
                    .iter()
                    .filter(|(ip, _)| ip.is_ipv4() == v4);
                own.next()
                    .map_or_else(String::new, |(ip, prefix)| format!("{ip}/{prefix}"))
            };
            object["Containers"][id] = json!({
                "Name": names.get(id).cloned().unwrap_or_default(),
                "EndpointID": endpoint.id,
                "MacAddress": endpoint.mac,
                "IPv4Address": address(true),
                "IPv6Address": address(false),
            });
        }
    }
    Ok(object)
}

/// Removes a network that no running container is on.
///
/// # Errors
/// NotFound; PermissionDenied for one of Docker's own; FailedPrecondition while
/// containers are on it.
pub async fn remove(engine: &Engine, typed: &str) -> Result<()> {
    let (engine, typed) = (engine.clone(), typed.to_owned());
    lite_core::blocking(move || {
        let network = engine.fabric().find(&typed)?;
        if network.predefined {
            return Err(Kind::PermissionDenied.error(format!(
                "{} is a pre-defined network and cannot be removed",
                network.name
            )));
        }
        delete(&engine, &network)
    })
    .await
}

fn delete(engine: &Engine, network: &Definition) -> Result<()> {
    let mut state = engine.fabric().state();
    let users = state.users(&network.id);
    if !users.is_empty() {
        let named: Vec<String> = users
            .iter()
            .map(|id| format!("id:\"{}\"", id.get(..12).unwrap_or(id)))
            .collect();
        return Err(Kind::FailedPrecondition.error(format!(
            "error while removing network: network {} has active endpoints ({}): disconnect or stop them first",
            network.name,
            named.join(", ")
        )));
    }
    state
        .drop_bridge(network)
        .op(|| format!("remove bridge {}", network.bridge_name()))?;
    engine
        .core()
        .documents
        .delete(engine.ns(), KIND, &network.id)?;
    state.networks.remove(&network.id);
    drop(state);
    engine.emit(
        Event::now("network", "destroy", &network.id)
            .with("name", &network.name)
            .with("type", "bridge"),
    );
    Ok(())
}

/// Removes networks that no container is on, running or not.
///
/// # Errors
/// InvalidArgument for a filter there is not; those of storage.
pub async fn prune(engine: &Engine, filters: &[String]) -> Result<Pruned> {
    let filter = Filter::parse(filters, &["label", "label!", "until"])?;
    let until = filter.values("until").last();
    let until = until.map(|text| crate::prune::moment(text)).transpose()?;
    let engine = engine.clone();
    lite_core::blocking(move || {
        let candidates: Vec<Definition> =
            engine.fabric().state().networks.values().cloned().collect();
        let records: Vec<_> = engine
            .handles()
            .iter()
            .map(|handle| handle.record())
            .collect();
        let mut pruned = Pruned::default();
        for network in candidates.iter().filter(|network| !network.predefined) {
            let wanted = records.iter().any(|record| uses(record, network));
            let old = until.is_none_or(|until| network.created_at.is_some_and(|made| made < until));
            if !wanted && old && filter.labels(&network.labels) {
                delete(&engine, network)?;
                pruned.removed.push(network.name.clone());
            }
        }
        Ok(pruned)
    })
    .await
}

fn uses(record: &Record, network: &Definition) -> bool {
    let Mode::Networks(networks) = mode(&record.host) else {
        return false;
    };
    networks.iter().any(|attachment| {
        attachment.network == network.name || network.id.starts_with(&attachment.network)
    })
}

/// Puts a container on one more network, at once where it runs.
///
/// # Errors
/// NotFound; FailedPrecondition where it is on it already, or an address is
/// taken; InvalidArgument for what cannot be.
pub async fn connect(engine: &Engine, container: &str, attachment: Attachment) -> Result<()> {
    let handle = engine.find(container)?;
    let record = handle.record();
    let network = engine.fabric().find(&attachment.network)?;
    network.check(&attachment)?;
    let before = match mode(&record.host) {
        Mode::Networks(networks) => networks,
        Mode::None => Vec::new(),
        Mode::Host | Mode::Container(_) => {
            return Err(invalid(
                "container sharing network namespace with another container or host cannot be connected to any other network",
            ));
        }
    };
    if uses(&record, &network) {
        return Err(Kind::FailedPrecondition.error(format!(
            "endpoint with name {} already exists in network {}",
            record.name, network.name
        )));
    }
    if record.phase == Phase::Running {
        let (engine, record, attachment) = (engine.clone(), record.clone(), attachment.clone());
        lite_core::blocking(move || join(&engine, &record, &attachment)).await?;
    }
    let mut networks = before;
    networks.push(attachment);
    handle
        .change(move |record| record.host.networks = networks)
        .await?;
    tell(engine, &record, &network, "connect");
    Ok(())
}

fn tell(engine: &Engine, record: &Record, network: &Definition, action: &str) {
    let event = Event::now("network", action, &network.id)
        .with("container", &record.id)
        .with("name", &network.name)
        .with("type", "bridge");
    engine.emit(event);
}

fn join(engine: &Engine, record: &Record, attachment: &Attachment) -> Result<()> {
    let fabric = engine.fabric();
    let mut state = fabric.state();
    let path = state
        .attached
        .get(&record.id)
        .map(|live| live.attached.netns.clone());
    let path = path.ok_or_else(|| {
        Kind::FailedPrecondition.error(format!(
            "container {} runs without a network of its own: stop it, connect it, and start it again",
            record.name
        ))
    })?;
    let namespace = netns::open(&path).op(|| format!("open {}", path.display()))?;
    add_endpoint(
        &mut state,
        &link_prefix(engine),
        record,
        attachment,
        &namespace,
    )?;
    let attached = finish(engine, &mut state, record)?;
    let has_server = state
        .attached
        .get(&record.id)
        .is_some_and(|live| live.server.is_some());
    drop(state);
    if !has_server {
        serve_names(engine, record, &attached, &namespace)?;
    }
    Ok(())
}

/// After a change: the firewall, the names and the file that outlives the daemon.
fn finish(engine: &Engine, state: &mut State, record: &Record) -> Result<super::Attached> {
    state.tell_firewall(false)?;
    let attached = state
        .attached
        .get(&record.id)
        .map(|live| live.attached.clone())
        .unwrap_or_default();
    engine
        .fabric()
        .names
        .set(&record.id, attached.endpoints.clone());
    save(&attached)?;
    Ok(attached)
}

/// Takes a container off a network, at once where it runs.
///
/// # Errors
/// NotFound; FailedPrecondition where it is not on it.
pub async fn disconnect(engine: &Engine, container: &str, typed: &str) -> Result<()> {
    let handle = engine.find(container)?;
    let record = handle.record();
    let network = engine.fabric().find(typed)?;
    if !uses(&record, &network) {
        return Err(Kind::FailedPrecondition.error(format!(
            "container {} is not connected to network {}",
            record.id, network.name
        )));
    }
    if record.phase == Phase::Running {
        let (engine, record, network) = (engine.clone(), record.clone(), network.clone());
        lite_core::blocking(move || part(&engine, &record, &network)).await?;
    }
    let Mode::Networks(mut networks) = mode(&record.host) else {
        return Ok(());
    };
    networks
        .retain(|other| other.network != network.name && !network.id.starts_with(&other.network));
    if networks.is_empty() {
        networks.push(Attachment {
            network: "none".to_owned(),
            ..Attachment::default()
        });
    }
    handle
        .change(move |record| record.host.networks = networks)
        .await?;
    tell(engine, &record, &network, "disconnect");
    Ok(())
}

fn part(engine: &Engine, record: &Record, network: &Definition) -> Result<()> {
    let mut state = engine.fabric().state();
    let Some(live) = state.attached.get_mut(&record.id) else {
        return Ok(());
    };
    let endpoints = &mut live.attached.endpoints;
    let gone: Vec<Endpoint> = endpoints
        .iter()
        .filter(|e| e.network == network.id)
        .cloned()
        .collect();
    endpoints.retain(|endpoint| endpoint.network != network.id);
    let netns = live.attached.netns.clone();
    for endpoint in &gone {
        link::remove(&endpoint.link).op(|| format!("remove link {}", endpoint.link))?;
    }
    if gone.iter().any(|endpoint| !endpoint.gateways.is_empty()) {
        other_way_out(&mut state, record, &netns)?;
    }
    finish(engine, &mut state, record)?;
    state.bring_down_unused();
    Ok(())
}

/// The way out was by the network that is gone: the next one that leads
/// anywhere takes its place.
fn other_way_out(state: &mut State, record: &Record, netns: &std::path::Path) -> Result<()> {
    let networks = state.networks.clone();
    let Some(live) = state.attached.get_mut(&record.id) else {
        return Ok(());
    };
    let next = live.attached.endpoints.iter_mut().find_map(|endpoint| {
        let network = networks
            .get(&endpoint.network)
            .filter(|network| !network.internal)?;
        let gateways: Vec<IpAddr> = network
            .subnets()
            .into_iter()
            .filter_map(|(_, ip)| ip)
            .collect();
        Some((endpoint, gateways))
    });
    if let Some((endpoint, gateways)) = next {
        let namespace = netns::open(netns).op(|| format!("open {}", netns.display()))?;
        for gateway in &gateways {
            use std::os::fd::AsFd as _;
            link::set_gateway(namespace.as_fd(), &endpoint.interface, *gateway, true)
                .op(|| format!("set the gateway of container {}", record.name))?;
        }
        endpoint.gateways = gateways;
    }
    Ok(())
}

/// The networks there are: those that are stored, and Docker's own.
pub(super) fn load(engine: &Engine) -> Result<BTreeMap<String, Definition>> {
    let mut networks = BTreeMap::new();
    for (id, bytes) in engine.core().documents.list(engine.ns(), KIND)? {
        match serde_json::from_slice::<Definition>(&bytes) {
            Ok(network) => {
                networks.insert(id, network);
            }
            // Left alone: a newer daemon may understand it.
            Err(err) => tracing::error!(network = id, error = %err, "read network"),
        }
    }
    let new_id = || -> Result<String> {
        Ok(Id::generate()
            .op(|| "make an id".to_owned())?
            .as_str()
            .to_owned())
    };
    let has = |networks: &BTreeMap<String, Definition>, name: &str| {
        networks.values().any(|network| network.name == name)
    };
    let mut own = Vec::new();
    if !has(&networks, DEFAULT) {
        let routed = link::routed().op(|| "read the host's routes".to_owned())?;
        let free = |subnet: &Subnet| !routed.iter().any(|other| other.overlaps(subnet));
        let chosen = subnet::pool().find(free).or_else(|| subnet::pool().next());
        if let Some(subnet) = chosen {
            own.push(Definition::bridge(
                new_id()?,
                &engine.instance_name("ctl"),
                subnet,
            ));
        }
    }
    for (name, driver) in [("host", "host"), ("none", "null")] {
        if !has(&networks, name) {
            own.push(Definition::without_addresses(new_id()?, name, driver));
        }
    }
    for network in own {
        store(engine, &network)?;
        networks.insert(network.id.clone(), network);
    }
    Ok(networks)
}
