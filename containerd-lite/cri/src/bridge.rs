//! The network of pods where no CNI configuration says otherwise: one bridge,
//! one subnet, an address for each pod, and ports of the host that lead in.
//!
//! The subnet is chosen once and kept in the database. Who has which address
//! is in the pods' records; what is here is read from them at the start.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lite_core::{Because, Core, Kind, Namespace, Result};
use network::Subnet;
use network::firewall::{self, Wishes};
use network::link::{self, Pair};
use network::netns::Pool;
use network::reserve::{Reserved, reserve};

use crate::config::PortMapping;
use crate::hub::NAMESPACE;
use crate::record::PodRecord;

/// Under which the database has the subnet.
const DOCUMENT: (&str, &str) = ("cri-bridge", "subnet");

/// The interface in a pod.
const INTERFACE: &str = "eth0";

/// Digits of a pod's id in the name of its link.
const LINK_DIGITS: usize = 9;

/// The bridge, and who is on it.
pub(crate) struct Bridge {
    instance: u16,
    documents: lite_core::Documents,
    state: Mutex<State>,
    /// Network namespaces that are ready.
    pub(crate) pool: Pool,
}

#[derive(Default)]
struct State {
    subnet: Option<Subnet>,
    up: bool,
    pods: BTreeMap<String, Member>,
    told: Wishes,
}

#[derive(Default)]
struct Member {
    ip: Option<IpAddr>,
    ports: Vec<firewall::Port>,
    _reserved: Vec<Reserved>,
}

impl Bridge {
    pub(crate) fn open(core: &Core) -> Self {
        Self {
            instance: core.config.instance(),
            documents: core.documents.clone(),
            state: Mutex::default(),
            // Filled with the first pod: a machine without any needs none.
            pool: Pool::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> String {
        match self.instance {
            0 => "cri0".to_owned(),
            number => format!("cri-{number:04x}"),
        }
    }

    fn table(&self) -> String {
        match self.instance {
            0 => "containerd_lite_cri".to_owned(),
            number => format!("containerd_lite_cri_{number:04x}"),
        }
    }

    fn link(&self, pod: &str) -> String {
        let digits = pod.get(..LINK_DIGITS).unwrap_or(pod);
        format!("cv{:04x}{digits}", self.instance)
    }

    /// Ties a pod's namespace to the bridge and opens its ports; returns its
    /// address.
    ///
    /// # Errors
    /// FailedPrecondition for a port that is taken; ResourceExhausted when no
    /// address is left; what the kernel says. What was done is undone by
    /// [`Bridge::leave`].
    pub(crate) fn join(
        &self,
        pod: &str,
        netns: BorrowedFd<'_>,
        ports: &[PortMapping],
    ) -> Result<IpAddr> {
        let mut state = self.state();
        let subnet = self.bring_up(&mut state)?;
        let gateway = subnet.nth(1);
        let taken: HashSet<IpAddr> = state.pods.values().filter_map(|pod| pod.ip).collect();
        let ip = subnet
            .free(|ip| Some(ip) == gateway || taken.contains(&ip))
            .ok_or_else(|| {
                Kind::ResourceExhausted.error("no address is left for another pod: remove some")
            })?;
        let (ports, reserved) = publish(ports, ip)?;
        let member = Member {
            ip: Some(ip),
            ports,
            _reserved: reserved,
        };
        state.pods.insert(pod.to_owned(), member);
        let pair = Pair {
            host: self.link(pod),
            container: INTERFACE.to_owned(),
            bridge: self.name(),
            mac: mac(ip),
            addresses: vec![(ip, subnet.prefix())],
            gateways: gateway.into_iter().collect(),
            mtu: None,
        };
        link::connect(&pair, netns).op(|| format!("tie the pod to bridge {}", pair.bridge))?;
        self.tell(&mut state)?;
        Ok(ip)
    }

    /// Takes a pod off the bridge; one that is not on it is fine.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn leave(&self, pod: &str) -> Result<()> {
        let mut state = self.state();
        let link = self.link(pod);
        // Once more than needed does no harm: a daemon that died may have left it.
        link::remove(&link).op(|| format!("remove link {link}"))?;
        if state.pods.remove(pod).is_some() {
            self.tell(&mut state)?;
        }
        if state.up && state.pods.is_empty() {
            let name = self.name();
            link::remove(&name).op(|| format!("remove bridge {name}"))?;
            state.up = false;
        }
        Ok(())
    }

    /// Knows again what pods of an earlier daemon have.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn restore(&self, pods: &[&PodRecord]) -> Result<()> {
        let mut state = self.state();
        for pod in pods {
            let ip = pod.ips.first().copied();
            // A port that somebody else has taken leads into the pod all the same.
            let ports = ip.map(|ip| forwarded(&pod.config.ports, ip));
            let member = Member {
                ip,
                ports: ports.unwrap_or_default(),
                _reserved: Vec::new(),
            };
            state.pods.insert(pod.id.clone(), member);
        }
        if !state.pods.is_empty() {
            self.bring_up(&mut state)?;
            self.tell(&mut state)?;
        }
        Ok(())
    }

    fn bring_up(&self, state: &mut State) -> Result<Subnet> {
        let subnet = match state.subnet {
            Some(subnet) => subnet,
            None => *state.subnet.insert(self.subnet()?),
        };
        if !state.up {
            let name = self.name();
            let bridge = link::Bridge {
                name: name.clone(),
                addresses: subnet
                    .nth(1)
                    .map(|ip| (ip, subnet.prefix()))
                    .into_iter()
                    .collect(),
                mtu: None,
            };
            let what = || format!("make bridge {name}");
            link::make_bridge(&bridge).op(what)?;
            link::turn_on(&format!("ipv4/conf/{name}/route_localnet")).op(what)?;
            link::turn_on("ipv4/ip_forward").op(what)?;
            state.up = true;
        }
        Ok(subnet)
    }

    /// The subnet that was chosen, or one that the host does not reach already.
    fn subnet(&self) -> Result<Subnet> {
        let ns = Namespace::parse(NAMESPACE)?;
        let (kind, name) = DOCUMENT;
        if let Some(stored) = self.documents.get(&ns, kind, name)? {
            let text = String::from_utf8_lossy(&stored).into_owned();
            return text.parse().map_err(|_| {
                Kind::DataLoss.error(format!("subnet {text:?} of pods in the database"))
            });
        }
        let routed = link::routed().op(|| "read the host's routes".to_owned())?;
        let free = (85..=120)
            .filter_map(|n| Subnet::new(IpAddr::V4(Ipv4Addr::new(10, n, 0, 0)), 16))
            .find(|subnet| !routed.iter().any(|other| other.overlaps(subnet)));
        let subnet = free.ok_or_else(|| {
            Kind::FailedPrecondition
                .error("every subnet from 10.85.0.0/16 to 10.120.0.0/16 is in use on this host")
        })?;
        self.documents
            .put(&ns, kind, name, subnet.to_string().as_bytes())?;
        Ok(subnet)
    }

    fn tell(&self, state: &mut State) -> Result<()> {
        let networks = match (state.subnet, state.pods.is_empty()) {
            (Some(subnet), false) => vec![firewall::Network {
                bridge: self.name(),
                subnets: vec![subnet],
                internal: false,
                masquerade: true,
            }],
            _ => Vec::new(),
        };
        let ports = state.pods.values().flat_map(|pod| pod.ports.clone());
        let wishes = Wishes {
            networks,
            ports: ports.collect(),
        };
        if wishes != state.told {
            firewall::apply(&firewall::ruleset(&self.table(), &wishes))
                .op(|| "set the firewall's rules".to_owned())?;
            state.told = wishes;
        }
        Ok(())
    }
}

/// The hardware address of whoever has `ip`.
fn mac(ip: IpAddr) -> link::Mac {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [0x0a, 0x58, a, b, c, d]
        }
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            [0x0a, 0x58, octets[12], octets[13], octets[14], octets[15]]
        }
    }
}

/// Takes the host's ports for a pod.
fn publish(ports: &[PortMapping], to: IpAddr) -> Result<(Vec<firewall::Port>, Vec<Reserved>)> {
    let forwarded = forwarded(ports, to);
    let mut reserved = Vec::new();
    for port in &forwarded {
        let ip = port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let kept = reserve(&port.protocol, ip, port.host_port).map_err(|err| {
            Kind::FailedPrecondition
                .error(format!("host port {ip}:{}", port.host_port))
                .because(err)
        })?;
        reserved.push(kept);
    }
    Ok((forwarded, reserved))
}

fn forwarded(ports: &[PortMapping], to: IpAddr) -> Vec<firewall::Port> {
    let published = ports.iter().filter(|port| port.host_port != 0);
    published
        .map(|port| firewall::Port {
            protocol: port.protocol.clone(),
            // 0.0.0.0 and nothing are all addresses.
            host_ip: port
                .host_ip
                .parse()
                .ok()
                .filter(|ip: &IpAddr| !ip.is_unspecified()),
            host_port: port.host_port,
            to: SocketAddr::new(to, port.container_port),
        })
        .collect()
}
