//! What of the networks is in use: the one owner of addresses, host ports,
//! bridges and the firewall's table.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lite_core::{Because, Error, Kind, Result};
use network::firewall::{self, Wishes};
use network::link::{self, Bridge};
use network::netns::Pool;
use network::reserve::{Reserved, reserve};
use network::{Subnet, resolver};
use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::names::Names;
use crate::ports::{Binding, Port};

/// One network that a running container is on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// The network's id.
    pub network: String,
    /// Its own id.
    pub id: String,
    /// The host's end of the pair.
    pub link: String,
    /// The container's: `eth0`.
    pub interface: String,
    /// Hardware address.
    pub mac: String,
    /// Its addresses, IPv4 before IPv6.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The way out, as many as there are addresses, or none.
    pub gateways: Vec<IpAddr>,
    /// Names of the container on this network.
    pub names: Vec<String>,
}

/// One port of a running container that is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// In the container.
    pub number: u16,
    /// Transport.
    pub protocol: crate::ports::Protocol,
    /// The host's address; `None` means all.
    pub host_ip: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
}

impl Published {
    /// In the container.
    #[must_use]
    pub fn port(&self) -> Port {
        Port {
            number: self.number,
            protocol: self.protocol,
        }
    }
}

/// What a running container has of networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attached {
    /// The file that its namespace is pinned to.
    pub netns: PathBuf,
    /// Its networks, the first of which is the way out.
    pub endpoints: Vec<Endpoint>,
    /// Its published ports.
    pub ports: Vec<Published>,
}

/// The owner.
pub(crate) struct Fabric {
    state: Mutex<State>,
    /// Namespaces that are ready.
    pub(crate) pool: Pool,
    /// What name servers know.
    pub(crate) names: Arc<Names>,
}

#[derive(Default)]
pub(crate) struct State {
    /// By id.
    pub(crate) networks: BTreeMap<String, Definition>,
    /// By container.
    pub(crate) attached: HashMap<String, Live>,
    /// Networks whose bridge exists.
    up: HashSet<String>,
    /// The firewall's table.
    table: String,
    /// What the firewall was last told.
    told: Wishes,
}

/// What one running container has.
pub(crate) struct Live {
    pub(crate) attached: Attached,
    reserved: Vec<Reserved>,
    pub(crate) server: Option<resolver::Server>,
}

impl Fabric {
    /// With `table` as the name of the firewall's table.
    pub(crate) fn new(table: String) -> Self {
        let pool = Pool::default();
        pool.fill();
        Self {
            state: Mutex::new(State {
                table,
                ..State::default()
            }),
            pool,
            names: Arc::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a running container has of networks; nothing where it is on none.
    pub(crate) fn attached(&self, id: &str) -> Attached {
        let state = self.state();
        state
            .attached
            .get(id)
            .map(|live| live.attached.clone())
            .unwrap_or_default()
    }

    /// The network that `typed` names: by name, by id, or by the beginning of
    /// an id.
    ///
    /// # Errors
    /// NotFound; InvalidArgument when several begin so.
    pub(crate) fn find(&self, typed: &str) -> Result<Definition> {
        self.state().find(typed)
    }
}

impl State {
    pub(crate) fn find(&self, typed: &str) -> Result<Definition> {
        let all = || self.networks.values();
        if let Some(found) = all().find(|network| network.name == typed || network.id == typed) {
            return Ok(found.clone());
        }
        let mut begin_so =
            all().filter(|network| !typed.is_empty() && network.id.starts_with(typed));
        match (begin_so.next(), begin_so.next()) {
            (Some(found), None) => Ok(found.clone()),
            (Some(_), Some(_)) => Err(Kind::InvalidArgument.error(format!(
                "network {typed} is ambiguous (several ids begin so)"
            ))),
            (None, _) => Err(Kind::NotFound.error(format!("network {typed} not found"))),
        }
    }

    /// Ids of the containers on a network.
    pub(crate) fn users(&self, network: &str) -> Vec<String> {
        let on_it = |live: &&Live| live.attached.endpoints.iter().any(|e| e.network == network);
        let users = self.attached.iter().filter(|(_, live)| on_it(live));
        users.map(|(id, _)| id.clone()).collect()
    }

    /// Addresses for a container that wants `ip4` and `ip6`, or any.
    ///
    /// # Errors
    /// FailedPrecondition for one that is taken; ResourceExhausted.
    pub(crate) fn addresses(
        &self,
        network: &Definition,
        wanted: &[String],
    ) -> Result<Vec<(IpAddr, u8)>> {
        let taken: HashSet<IpAddr> = self
            .attached
            .values()
            .flat_map(|live| &live.attached.endpoints)
            .filter(|endpoint| endpoint.network == network.id)
            .flat_map(|endpoint| endpoint.addresses.iter().map(|(ip, _)| *ip))
            .collect();
        let mut given = Vec::new();
        for range in &network.ranges {
            let Ok(subnet) = range.subnet.parse::<Subnet>() else {
                continue;
            };
            let for_nobody = |ip: IpAddr| {
                let text = ip.to_string();
                range.gateway == text || range.reserved.values().any(|other| *other == text)
            };
            let asked = wanted
                .iter()
                .filter_map(|text| text.parse::<IpAddr>().ok())
                .find(|ip| subnet.contains(*ip));
            let address = match asked {
                Some(ip) if taken.contains(&ip) || for_nobody(ip) => {
                    return Err(Kind::FailedPrecondition.error("Address already in use"));
                }
                Some(ip) => ip,
                None => range
                    .range
                    .parse()
                    .unwrap_or(subnet)
                    .free(|ip| taken.contains(&ip) || for_nobody(ip))
                    .ok_or_else(|| {
                        Kind::ResourceExhausted.error(format!(
                            "no available IPv{} addresses on network {}: remove containers or make a network with a larger subnet",
                            if subnet.is_ipv6() { 6 } else { 4 },
                            network.name
                        ))
                    })?,
            };
            given.push((address, subnet.prefix()));
        }
        Ok(given)
    }

    /// Makes the network's bridge, where it is not there yet.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn bring_up(&mut self, network: &Definition) -> Result<()> {
        if self.up.contains(&network.id) {
            return Ok(());
        }
        let name = network.bridge_name();
        let what = || format!("make bridge {name} of network {}", network.name);
        let own = |(subnet, gateway): (Subnet, Option<IpAddr>)| Some((gateway?, subnet.prefix()));
        let bridge = Bridge {
            name: name.clone(),
            addresses: network.subnets().into_iter().filter_map(own).collect(),
            mtu: network.mtu(),
        };
        link::make_bridge(&bridge).op(what)?;
        self.up.insert(network.id.clone());
        // Loopback addresses may leave by it, which is how the host reaches
        // published ports by 127.0.0.1; the firewall lets none in.
        link::turn_on(&format!("ipv4/conf/{name}/route_localnet")).op(what)?;
        if !network.internal {
            link::turn_on("ipv4/ip_forward").op(what)?;
            if network.ipv6 {
                link::turn_on("ipv6/conf/all/forwarding").op(what)?;
            }
        }
        Ok(())
    }

    /// Removes the bridges of networks that nobody is on any more.
    pub(crate) fn bring_down_unused(&mut self) {
        let unused: Vec<String> = self
            .up
            .iter()
            .filter(|id| self.users(id).is_empty())
            .cloned()
            .collect();
        for id in unused {
            let Some(network) = self.networks.get(&id) else {
                continue;
            };
            match link::remove(&network.bridge_name()) {
                Ok(()) => {
                    self.up.remove(&id);
                }
                Err(err) => {
                    tracing::warn!(network = network.name, error = %err, "remove bridge");
                }
            }
        }
    }

    /// Removes a bridge that may be there without our knowledge.
    pub(crate) fn drop_bridge(&mut self, network: &Definition) -> io::Result<()> {
        link::remove(&network.bridge_name())?;
        self.up.remove(&network.id);
        Ok(())
    }

    /// Puts the firewall's table in place again where somebody has deleted it;
    /// returns whether that was so.
    pub(crate) fn restore_firewall(&mut self) -> Result<bool> {
        let none = self.told == Wishes::default();
        let what = || "look at the firewall's rules".to_owned();
        if none || firewall::exists(&self.table).op(what)? {
            return Ok(false);
        }
        self.tell_firewall(true)?;
        Ok(true)
    }

    /// Tells the firewall what is wished for now, if that has changed.
    ///
    /// # Errors
    /// What nft says.
    pub(crate) fn tell_firewall(&mut self, always: bool) -> Result<()> {
        let wishes = self.wishes();
        if !always && wishes == self.told {
            return Ok(());
        }
        firewall::apply(&firewall::ruleset(&self.table, &wishes))
            .op(|| "set the firewall's rules".to_owned())?;
        self.told = wishes;
        Ok(())
    }

    fn wishes(&self) -> Wishes {
        let mut in_use: Vec<&Definition> = self
            .networks
            .values()
            .filter(|network| network.driver == "bridge" && !self.users(&network.id).is_empty())
            .collect();
        in_use.sort_by(|a, b| a.id.cmp(&b.id));
        let networks = in_use.iter().map(|network| firewall::Network {
            bridge: network.bridge_name(),
            subnets: network
                .subnets()
                .into_iter()
                .map(|(subnet, _)| subnet)
                .collect(),
            internal: network.internal,
            masquerade: network.masquerades(),
        });
        let mut ids: Vec<&String> = self.attached.keys().collect();
        ids.sort();
        let ports = ids
            .iter()
            .filter_map(|id| self.attached.get(*id))
            .flat_map(|live| self.forwarded(&live.attached));
        Wishes {
            networks: networks.collect(),
            ports: ports.collect(),
        }
    }

    /// Where a container's published ports lead: to its first address of each
    /// family on a network that lets anything in.
    fn forwarded(&self, attached: &Attached) -> Vec<firewall::Port> {
        let open = attached.endpoints.iter().filter(|endpoint| {
            let network = self.networks.get(&endpoint.network);
            network.is_some_and(|network| !network.internal)
        });
        let addresses: Vec<IpAddr> = open
            .flat_map(|endpoint| endpoint.addresses.iter().map(|(ip, _)| *ip))
            .collect();
        let mut ports = Vec::new();
        for published in &attached.ports {
            for v4 in [true, false] {
                let same = published.host_ip.is_none_or(|ip| ip.is_ipv4() == v4);
                let to = addresses.iter().find(|ip| ip.is_ipv4() == v4);
                if let Some(to) = to.filter(|_| same) {
                    ports.push(firewall::Port {
                        protocol: published.protocol.to_string(),
                        // 0.0.0.0 and :: are all addresses.
                        host_ip: published.host_ip.filter(|ip| !ip.is_unspecified()),
                        host_port: published.host_port,
                        to: SocketAddr::new(*to, published.number),
                    });
                }
            }
        }
        ports
    }

    /// Takes the host's ports for a container.
    ///
    /// # Errors
    /// FailedPrecondition, saying who has one.
    pub(crate) fn publish(&self, bindings: &[Binding]) -> Result<(Vec<Published>, Vec<Reserved>)> {
        let (mut ports, mut reserved) = (Vec::new(), Vec::new());
        for binding in bindings {
            let ip = binding.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            let protocol = binding.port.protocol.to_string();
            let (first, last) = binding.host.unwrap_or((0, 0));
            let mut outcome = Err(io::Error::from(io::ErrorKind::AddrInUse));
            for port in first..=last {
                outcome = reserve(&protocol, ip, port);
                if outcome.is_ok() {
                    break;
                }
            }
            let kept = outcome.map_err(|err| self.taken(ip, first, binding, err))?;
            ports.push(Published {
                number: binding.port.number,
                protocol: binding.port.protocol,
                host_ip: binding.host_ip,
                host_port: kept.port,
            });
            reserved.push(kept);
        }
        Ok((ports, reserved))
    }

    fn taken(&self, ip: IpAddr, port: u16, binding: &Binding, err: io::Error) -> Error {
        if err.kind() != io::ErrorKind::AddrInUse {
            return Error::io(
                format!("publish port {ip}:{port}/{}", binding.port.protocol),
                err,
            );
        }
        let mut owners = self.attached.iter().filter(|(_, live)| {
            let mut ports = live.attached.ports.iter();
            ports.any(|other| other.host_port == port && other.protocol == binding.port.protocol)
        });
        let by = match owners.next() {
            Some((id, _)) => format!("by container {}", id.get(..12).unwrap_or(id)),
            None => "by another program of the host".to_owned(),
        };
        Kind::FailedPrecondition.error(format!(
            "Bind for {ip}:{port} failed: port is already allocated {by}"
        ))
    }

    /// Enters what a container has.
    pub(crate) fn enter(&mut self, id: &str, attached: Attached, reserved: Vec<Reserved>) {
        let live = Live {
            attached,
            reserved,
            server: None,
        };
        self.attached.insert(id.to_owned(), live);
    }

    /// Enters what a container that an earlier daemon started has. A port that
    /// somebody else has taken meanwhile leads to the container all the same.
    pub(crate) fn enter_again(&mut self, id: &str, attached: Attached) {
        let mut reserved = Vec::new();
        for port in &attached.ports {
            let ip = port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            match reserve(&port.protocol.to_string(), ip, port.host_port) {
                Ok(kept) => reserved.push(kept),
                Err(err) => {
                    tracing::warn!(container_id = id, port = port.host_port, error = %err, "reserve a published port again");
                }
            }
        }
        self.enter(id, attached, reserved);
    }

    /// Forgets a container; its addresses and ports are free.
    pub(crate) fn leave(&mut self, id: &str) -> Option<Live> {
        self.attached.remove(id)
    }
}

impl Live {
    /// Ports that are kept from others, for who counts them.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved.len()
    }
}
