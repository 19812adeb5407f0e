//! Networks through `ctl`: each test, its daemon and its containers are in a
//! network namespace of the test's own, which stands for a whole host.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tests::command::{self, eventually};
use tests::stack::{BUSYBOX, Stack};

/// `ctl run --rm ARGS BUSYBOX sh -c SCRIPT`
#[track_caller]
fn shell(stack: &Stack, args: &[&str], script: &str) -> String {
    stack
        .ctl(&[&["run", "--rm"], args, &[BUSYBOX, "sh", "-c", script]].concat())
        .ok()
}

/// A container in the background that answers each TCP connection to `port`
/// with its kernel's table of connections, in which the client's address is.
#[track_caller]
fn server(stack: &Stack, name: &str, port: u16, args: &[&str]) {
    let port = port.to_string();
    let serve = ["nc", "-ll", "-p", &port, "-e", "cat", "/proc/net/tcp6"];
    stack
        .ctl(&[&["run", "-d", "--name", name], args, &[BUSYBOX], &serve[..]].concat())
        .ok();
}

/// What every table of connections begins with.
const TABLE: &str = "local_address";

/// What comes back on a connection; tried until the server listens.
#[track_caller]
fn asked(address: &str) -> String {
    eventually(address, || {
        let mut stream =
            TcpStream::connect_timeout(&address.parse().ok()?, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        (!said.is_empty()).then_some(said)
    })
}

/// A command of the test's own network; busybox is the static one.
#[track_caller]
fn host(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    command::run(Command::new(program(words[0])).args(&words[1..])).ok()
}

fn program(word: &str) -> PathBuf {
    match word {
        "busybox" => tests::image::busybox_path(),
        other => other.into(),
    }
}

fn address_of(stack: &Stack, container: &str, network: &str) -> String {
    let pointer = format!("/NetworkSettings/Networks/{network}/IPAddress");
    stack
        .inspect(container, &pointer)
        .as_str()
        .expect("an address is a text")
        .to_owned()
}

/// Nothing of ours is in the kernel any more.
#[track_caller]
fn nothing_left() {
    eventually("the network to be as before", || {
        let links = host("ip -o link");
        let rules = host("nft list tables");
        (links.lines().count() == 1 && rules.trim().is_empty()).then_some(())
    });
}

#[test]
fn a_container_is_on_the_default_bridge_and_reaches_the_host() {
    let stack = Stack::with_busybox();
    let said = shell(
        &stack,
        &[],
        "ip -o -4 addr show eth0; ip route; cat /etc/hosts; hostname -i",
    );
    assert!(said.contains("172.17.0.2/16"), "{said}");
    assert!(said.contains("default via 172.17.0.1 dev eth0"), "{said}");
    assert!(said.ends_with("172.17.0.2\n"), "{said}");
    nothing_left();
    stack
        .ctl(&["run", "-d", "--name", "c1", BUSYBOX, "sleep", "1000"])
        .ok();
    assert_eq!(stack.inspect("c1", "/HostConfig/NetworkMode"), "bridge");
    let network = stack.inspect("c1", "/NetworkSettings/Networks/bridge");
    assert_eq!(network["Gateway"], "172.17.0.1");
    assert_eq!(
        (&network["IPAddress"], &network["IPPrefixLen"]),
        (&json!("172.17.0.2"), &json!(16))
    );
    // From the host to the container and back.
    host("busybox ping -c 1 -W 5 172.17.0.2");
    stack
        .ctl(&["exec", "c1", "ping", "-c", "1", "-W", "5", "172.17.0.1"])
        .ok();
    // Two containers have two addresses and see each other.
    assert!(
        shell(
            &stack,
            &[],
            "ping -c 1 -W 5 172.17.0.2 >/dev/null && hostname -i"
        )
        .contains("172.17.0.3")
    );
    stack.ctl(&["rm", "-f", "c1"]).ok();
    nothing_left();
}

#[test]
fn published_ports_are_reached_by_loopback_and_by_the_hosts_addresses() {
    let stack = Stack::with_busybox();
    host("ip link add ext type veth peer name ext2");
    host("ip addr add 10.9.8.7/24 dev ext");
    host("ip link set ext up");
    server(
        &stack,
        "web",
        80,
        &["-p", "8080:80", "-p", "127.0.0.1:8081:80"],
    );
    assert!(asked("127.0.0.1:8080").contains(TABLE));
    asked("10.9.8.7:8080");
    asked("127.0.0.1:8081");
    let narrow: SocketAddr = "10.9.8.7:8081".parse().unwrap();
    assert!(TcpStream::connect_timeout(&narrow, Duration::from_secs(2)).is_err());
    let ps = stack.ctl(&["ps"]).ok();
    assert!(ps.contains("0.0.0.0:8080->80/tcp"), "{ps}");
    assert!(ps.contains("127.0.0.1:8081->80/tcp"), "{ps}");
    let ports = stack.ctl(&["port", "web"]).ok();
    assert_eq!(ports, "80/tcp -> 0.0.0.0:8080\n80/tcp -> 127.0.0.1:8081\n");
    assert_eq!(
        stack.ctl(&["port", "web", "80/tcp"]).ok(),
        "0.0.0.0:8080\n127.0.0.1:8081\n"
    );
    stack
        .ctl(&["port", "web", "81"])
        .fails_naming(&["no public port '81/tcp' published for web"]);
    assert_eq!(
        stack.inspect("web", "/NetworkSettings/Ports/80~1tcp/0"),
        json!({"HostIp": "0.0.0.0", "HostPort": "8080"})
    );
    // Another container, by the host's address and by the gateway's.
    let said = shell(
        &stack,
        &[],
        "nc 10.9.8.7 8080 </dev/null; nc 172.17.0.1 8080 </dev/null",
    );
    assert_eq!(said.matches(TABLE).count(), 2, "{said}");
    stack.ctl(&["rm", "-f", "web"]).ok();
    assert!(
        TcpStream::connect_timeout(&"127.0.0.1:8080".parse().unwrap(), Duration::from_secs(2))
            .is_err()
    );
    host("ip link del ext");
    nothing_left();
}

/// A neighbour in a namespace of its own, tied to the test's by a pair.
struct Neighbour(std::process::Child);

impl Neighbour {
    fn new() -> Self {
        let sleeper = Command::new("unshare")
            .args(["-n", "sleep", "1000"])
            .spawn()
            .expect("unshare can be run");
        let pid = sleeper.id();
        eventually("the neighbour's namespace", || {
            let own = std::fs::read_link("/proc/thread-self/ns/net").ok()?;
            let its = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
            (own != its).then_some(())
        });
        host(&format!(
            "ip link add near type veth peer name far netns {pid}"
        ));
        host("ip addr add 10.5.5.1/24 dev near");
        host("ip link set near up");
        let neighbour = Self(sleeper);
        neighbour.run("ip addr add 10.5.5.2/24 dev far");
        neighbour.run("ip link set far up");
        neighbour.run("ip route add default via 10.5.5.1");
        neighbour
    }

    fn run(&self, line: &str) -> command::Said {
        let pid = self.0.id().to_string();
        let words: Vec<&str> = line.split(' ').collect();
        let program = program(words[0]);
        command::run(
            Command::new("nsenter")
                .args(["-n", "-t", &pid])
                .arg(program)
                .args(&words[1..]),
        )
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_neighbours_address_is_kept_and_only_published_ports_let_it_in() {
    let stack = Stack::with_busybox();
    let neighbour = Neighbour::new();
    server(&stack, "web", 80, &["-p", "8080:80"]);
    asked("127.0.0.1:8080");
    let said = neighbour.run("busybox nc 10.5.5.1 8080").ok();
    // 10.5.5.2, as the kernel writes it.
    assert!(said.contains("0205050A:"), "{said}");
    // Straight to the container, past its published port.
    let direct = neighbour.run("busybox nc -w 3 172.17.0.2 80");
    assert!(!direct.out.contains(TABLE), "{}", direct.out);
    // And from the container out, with the host's address.
    let said = shell(
        &stack,
        &[],
        "ping -c 1 -W 5 10.5.5.2 >/dev/null && echo reached",
    );
    assert_eq!(said, "reached\n");
}

/// Echoes UDP packets inside the network namespace at this path.
fn echo_inside(namespace: &str, port: u16) {
    let namespace = std::fs::File::open(namespace).expect("a namespace can be opened");
    std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)
            .expect("a namespace can be entered");
        let socket = UdpSocket::bind(("0.0.0.0", port)).expect("the port is free");
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

#[test]
fn udp_ranges_and_random_ports() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&[
            "run",
            "-d",
            "--name",
            "u1",
            "-p",
            "5353:53/udp",
            BUSYBOX,
            "sleep",
            "1000",
        ])
        .ok();
    echo_inside(
        stack
            .inspect("u1", "/NetworkSettings/SandboxKey")
            .as_str()
            .unwrap(),
        53,
    );
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    eventually("an echo", || {
        socket.send_to(b"hello", "127.0.0.1:5353").ok()?;
        let mut buffer = [0; 16];
        let (length, _) = socket.recv_from(&mut buffer).ok()?;
        (&buffer[..length] == b"hello").then_some(())
    });
    stack
        .ctl(&[
            "create",
            "--name",
            "r1",
            "-p",
            "7000-7002:80-82",
            "--expose",
            "90",
            BUSYBOX,
            "sleep",
            "1000",
        ])
        .ok();
    stack.ctl(&["start", "r1"]).ok();
    let ports = stack.ctl(&["port", "r1"]).ok();
    assert_eq!(
        ports,
        "80/tcp -> 0.0.0.0:7000\n81/tcp -> 0.0.0.0:7001\n82/tcp -> 0.0.0.0:7002\n"
    );
    assert!(stack.ctl(&["ps"]).ok().contains("90/tcp"));
    server(&stack, "p1", 8000, &["-P", "--expose", "8000"]);
    let random = stack.ctl(&["port", "p1", "8000"]).ok();
    let port = random.trim().rsplit(':').next().unwrap();
    asked(&format!("127.0.0.1:{port}"));
}

#[test]
fn a_port_that_is_taken_says_by_whom() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&[
            "run", "-d", "--name", "first", "-p", "8080:80", BUSYBOX, "sleep", "1000",
        ])
        .ok();
    let id = stack.inspect("first", "/Id");
    stack
        .ctl(&[
            "run", "-d", "--name", "second", "-p", "8080:81", BUSYBOX, "sleep", "1000",
        ])
        .exits(125)
        .fails_naming(&[
            "Bind for 0.0.0.0:8080 failed: port is already allocated",
            &id.as_str().unwrap()[..12],
        ]);
    let listener = TcpListener::bind("127.0.0.1:9090").unwrap();
    stack
        .ctl(&["run", "--rm", "-p", "127.0.0.1:9090:80", BUSYBOX, "true"])
        .exits(125)
        .fails_naming(&["127.0.0.1:9090", "another program"]);
    drop(listener);
    stack
        .ctl(&["run", "--rm", "-p", "127.0.0.1:9090:80", BUSYBOX, "true"])
        .ok();
    // A published port is the container's alone.
    assert!(TcpListener::bind("127.0.0.1:8080").is_err());
    stack.ctl(&["rm", "-f", "first", "second"]).ok();
    drop(TcpListener::bind("127.0.0.1:8080").unwrap());
}

#[test]
fn network_modes_of_the_host_of_nobody_and_of_others() {
    let stack = Stack::with_busybox();
    let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let inside = |args: &[&str]| {
        shell(&stack, args, "readlink /proc/self/ns/net")
            .trim()
            .to_owned()
    };
    assert_eq!(inside(&["--network", "host"]), own.display().to_string());
    assert_eq!(
        shell(&stack, &["--network", "none"], "ip -o link | wc -l"),
        "1\n"
    );
    stack
        .ctl(&["run", "-d", "--name", "c1", BUSYBOX, "sleep", "1000"])
        .ok();
    let of_c = stack
        .ctl(&["exec", "c1", "readlink", "/proc/self/ns/net"])
        .ok();
    assert_eq!(inside(&["--network", "container:c1"]), of_c.trim());
    let hosts = stack.ctl(&["exec", "c1", "cat", "/etc/hosts"]).ok();
    assert_eq!(
        shell(&stack, &["--network", "container:c1"], "cat /etc/hosts"),
        hosts
    );
    stack
        .ctl(&[
            "run",
            "--rm",
            "--network",
            "container:nobody",
            BUSYBOX,
            "true",
        ])
        .exits(125)
        .fails_naming(&["No such container: nobody"]);
    stack
        .ctl(&["run", "--rm", "--network", "nothing", BUSYBOX, "true"])
        .exits(125)
        .fails_naming(&["network nothing not found"]);
}

#[test]
fn names_and_aliases_are_resolved_on_networks_of_their_own() {
    let stack = Stack::with_busybox();
    stack.ctl(&["network", "create", "net"]).ok();
    stack
        .ctl(&[
            "run",
            "-d",
            "--name",
            "db",
            "--network",
            "net",
            "--network-alias",
            "database",
            BUSYBOX,
            "sleep",
            "1000",
        ])
        .ok();
    let ip = address_of(&stack, "db", "net");
    assert!(ip.starts_with("172.18.0."), "{ip}");
    let said = shell(
        &stack,
        &["--network", "net"],
        "cat /etc/resolv.conf; for n in db database DB; do nslookup -type=a $n | grep -c '172.18.0.2'; done; nslookup nobody >/dev/null 2>&1 || echo unknown",
    );
    assert!(
        said.contains("nameserver 127.0.0.11\n") && said.contains("options ndots:0"),
        "{said}"
    );
    assert!(said.ends_with("1\n1\n1\nunknown\n"), "{said}");
    assert!(
        shell(&stack, &["--network", "net"], "ping -c 1 -W 5 db").contains("1 packets received")
    );
    // The reverse, and from a network that the other is not on.
    let said = shell(&stack, &["--network", "net"], "nslookup 172.18.0.2");
    assert!(said.contains("name = db"), "{said}");
    stack.ctl(&["network", "create", "other"]).ok();
    let said = shell(
        &stack,
        &["--network", "other"],
        "ping -c 1 -W 2 db 2>&1 || true; ping -c 1 -W 2 172.18.0.2 2>&1 || true",
    );
    assert!(said.contains("bad address"), "{said}");
    assert!(said.contains("0 packets received"), "{said}");
    // The default bridge knows no names.
    let said = shell(&stack, &[], "ping -c 1 -W 2 db 2>&1 || true");
    assert!(said.contains("bad address"), "{said}");
}

#[test]
fn names_of_the_world_are_asked_of_the_hosts_servers() {
    let stack = Stack::with_busybox();
    stack.ctl(&["network", "create", "net"]).ok();
    // A name server of the test's own, which answers with one address.
    host("ip addr add 10.7.7.7/32 dev lo");
    let server = UdpSocket::bind("10.7.7.7:53").unwrap();
    server
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        let mut answer = buffer[..length].to_vec();
        answer[2] |= 0x80;
        answer[7] = 1;
        answer[8..12].fill(0);
        answer.truncate(length);
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 2, 3, 4]);
        server.send_to(&answer, from).unwrap();
    });
    let said = shell(
        &stack,
        &["--network", "net", "--dns", "10.7.7.7"],
        "nslookup -type=a example.org",
    );
    assert!(said.contains("1.2.3.4"), "{said}");
    thread.join().unwrap();
}

#[test]
fn fixed_addresses_subnets_and_ipv6() {
    let stack = Stack::with_busybox();
    let id = stack
        .ctl(&[
            "network",
            "create",
            "--subnet",
            "10.77.0.0/24",
            "--gateway",
            "10.77.0.9",
            "--ipv6",
            "--subnet",
            "fd77::/64",
            "net",
        ])
        .ok();
    assert_eq!(id.trim().len(), 64);
    let said = shell(
        &stack,
        &[
            "--network",
            "net",
            "--ip",
            "10.77.0.50",
            "--ip6",
            "fd77::50",
            "--mac-address",
            "02:00:00:00:00:99",
        ],
        "ip -o addr show eth0; cat /sys/class/net/eth0/address 2>/dev/null; ip route; ping -c 1 -W 5 -6 fd77::1 >/dev/null && echo six",
    );
    for words in [
        "10.77.0.50/24",
        "fd77::50/64",
        "default via 10.77.0.9",
        "six",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
    stack
        .ctl(&[
            "run",
            "-d",
            "--name",
            "c1",
            "--network",
            "net",
            "--ip",
            "10.77.0.50",
            BUSYBOX,
            "sleep",
            "1000",
        ])
        .ok();
    stack
        .ctl(&[
            "run",
            "--rm",
            "--network",
            "net",
            "--ip",
            "10.77.0.50",
            BUSYBOX,
            "true",
        ])
        .exits(125)
        .fails_naming(&["Address already in use"]);
    stack
        .ctl(&[
            "run",
            "--rm",
            "--network",
            "net",
            "--ip",
            "10.78.0.50",
            BUSYBOX,
            "true",
        ])
        .exits(125)
        .fails_naming(&["no configured subnet contains IP address 10.78.0.50"]);
    stack
        .ctl(&["run", "--rm", "--ip", "172.17.0.9", BUSYBOX, "true"])
        .exits(125)
        .fails_naming(&["user defined networks only"]);
    stack
        .ctl(&["network", "create", "--subnet", "10.77.0.0/16", "again"])
        .fails_naming(&["Pool overlaps with other one on this address space"]);
}

#[test]
fn internal_networks_let_nothing_out() {
    let stack = Stack::with_busybox();
    let neighbour = Neighbour::new();
    stack
        .ctl(&["network", "create", "--internal", "closed"])
        .ok();
    stack
        .ctl(&[
            "run",
            "-d",
            "--name",
            "c1",
            "--network",
            "closed",
            BUSYBOX,
            "sleep",
            "1000",
        ])
        .ok();
    let said = shell(
        &stack,
        &["--network", "closed"],
        "ping -c 1 -W 5 c1 >/dev/null && echo inside; ip route | grep -c default; ping -c 1 -W 2 10.5.5.2 >/dev/null 2>&1 || echo closed",
    );
    assert_eq!(said, "inside\n0\nclosed\n");
    drop(neighbour);
}

#[test]
fn networks_are_connected_and_disconnected_while_a_container_runs() {
    let stack = Stack::with_busybox();
    stack.ctl(&["network", "create", "one"]).ok();
    stack.ctl(&["network", "create", "two"]).ok();
    stack
        .ctl(&[
            "run",
            "-d",
            "--name",
            "c1",
            "--network",
            "one",
            BUSYBOX,
            "sleep",
            "1000",
        ])
        .ok();
    stack
        .ctl(&[
            "run",
            "-d",
            "--name",
            "far",
            "--network",
            "two",
            BUSYBOX,
            "sleep",
            "1000",
        ])
        .ok();
    stack
        .ctl(&["exec", "c1", "ping", "-c", "1", "-W", "1", "far"])
        .exits(1);
    assert_eq!(
        stack
            .ctl(&["network", "connect", "--alias", "nick", "two", "c1"])
            .ok(),
        ""
    );
    assert!(
        stack
            .ctl(&["exec", "c1", "ping", "-c", "1", "-W", "5", "far"])
            .ok()
            .contains("1 packets received")
    );
    assert!(
        stack
            .ctl(&["exec", "far", "ping", "-c", "1", "-W", "5", "nick"])
            .ok()
            .contains("1 packets received")
    );
    let networks = stack.inspect("c1", "/NetworkSettings/Networks");
    assert!(
        networks["one"]["IPAddress"] != "" && networks["two"]["IPAddress"] != "",
        "{networks}"
    );
    stack
        .ctl(&["network", "rm", "two"])
        .fails_naming(&["two", "has active endpoints"]);
    assert_eq!(stack.ctl(&["network", "disconnect", "one", "c1"]).ok(), "");
    assert_eq!(
        stack
            .ctl(&["exec", "c1", "sh", "-c", "ip -o link | grep -c eth"])
            .ok(),
        "1\n"
    );
    assert!(
        stack
            .ctl(&["exec", "c1", "ip", "route"])
            .ok()
            .contains("default via")
    );
    // It is still so after a restart.
    stack.ctl(&["restart", "-t", "0", "c1"]).ok();
    assert!(
        stack
            .ctl(&["exec", "c1", "ping", "-c", "1", "-W", "5", "far"])
            .ok()
            .contains("1 packets received")
    );
    stack
        .ctl(&["network", "disconnect", "one", "c1"])
        .fails_naming(&["is not connected to network one"]);
}

#[test]
fn networks_are_listed_inspected_removed_and_pruned() {
    let stack = Stack::with_busybox();
    let listed = stack
        .ctl(&[
            "network",
            "ls",
            "--format",
            "{{.Name}} {{.Driver}} {{.Scope}}",
        ])
        .ok();
    assert_eq!(
        listed,
        "bridge bridge local\nhost host local\nnone null local\n"
    );
    let id = stack
        .ctl(&["network", "create", "--label", "a=1", "net"])
        .ok();
    assert_eq!(
        stack
            .ctl(&["network", "ls", "-q", "--no-trunc", "-f", "label=a=1"])
            .ok(),
        id
    );
    let subnet = stack
        .ctl(&[
            "network",
            "inspect",
            "-f",
            "{{(index .IPAM.Config 0).Subnet}}",
            "net",
        ])
        .ok();
    assert_eq!(subnet, "172.18.0.0/16\n");
    stack
        .ctl(&["network", "create", "net"])
        .fails_naming(&["network with name net already exists"]);
    stack
        .ctl(&["network", "create", "-d", "bogus", "x"])
        .fails_naming(&["bogus", "not found"]);
    stack
        .ctl(&["network", "rm", "bridge"])
        .fails_naming(&["bridge is a pre-defined network and cannot be removed"]);
    stack
        .ctl(&[
            "run",
            "-d",
            "--name",
            "c1",
            "--network",
            "net",
            BUSYBOX,
            "sleep",
            "1000",
        ])
        .ok();
    let said = stack.ctl(&["network", "inspect", "net"]).ok();
    let object: serde_json::Value = serde_json::from_str(&said).unwrap();
    let container = object[0]["Containers"]
        .as_object()
        .unwrap()
        .values()
        .next()
        .unwrap();
    assert_eq!(
        (&container["Name"], &container["IPv4Address"]),
        (&json!("c1"), &json!("172.18.0.2/16"))
    );
    assert_eq!(stack.ctl(&["network", "prune", "-f"]).ok(), "");
    stack.ctl(&["rm", "-f", "c1"]).ok();
    assert_eq!(
        stack.ctl(&["network", "prune", "-f"]).ok(),
        "Deleted Networks:\nnet\n\n"
    );
    stack
        .ctl(&["network", "inspect", "net"])
        .fails_naming(&["network net not found"]);
    nothing_left();
}

#[test]
fn hosts_and_resolv_conf_are_what_was_asked_for() {
    let stack = Stack::with_busybox();
    let said = shell(
        &stack,
        &[
            "--add-host",
            "db:10.1.2.3",
            "--add-host",
            "up:host-gateway",
            "--dns",
            "1.1.1.1",
            "--dns-search",
            "example.org",
            "--dns-option",
            "timeout:1",
        ],
        "cat /etc/hosts /etc/resolv.conf",
    );
    for line in [
        "10.1.2.3\tdb\n",
        "172.17.0.1\tup\n",
        "nameserver 1.1.1.1\n",
        "search example.org\n",
        "options timeout:1\n",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
    stack
        .ctl(&["run", "--rm", "--add-host", "bogus", BUSYBOX, "true"])
        .exits(125)
        .fails_naming(&["bad format for add-host"]);
}

#[test]
fn networks_survive_the_daemon_and_a_flush_of_the_hosts_rules() {
    let mut stack = Stack::with_busybox();
    stack.ctl(&["network", "create", "net"]).ok();
    server(&stack, "web", 80, &["--network", "net", "-p", "8080:80"]);
    asked("127.0.0.1:8080");
    stack.kill_daemon();
    // Without a daemon everything goes on but for names.
    asked("127.0.0.1:8080");
    host("nft flush ruleset");
    stack.start_daemon();
    asked("127.0.0.1:8080");
    assert!(
        shell(&stack, &["--network", "net"], "ping -c 1 -W 5 web").contains("1 packets received")
    );
    let said = stack
        .ctl(&["exec", "web", "nslookup", "-type=a", "web"])
        .ok();
    assert!(said.contains("172.18.0.2"), "{said}");
    stack
        .ctl(&["run", "--rm", "-p", "8080:80", BUSYBOX, "true"])
        .exits(125)
        .fails_naming(&["8080", "already allocated"]);
    // What ended while no daemon was there leaves nothing either.
    let pid = stack.inspect("web", "/State/Pid");
    stack.kill_daemon();
    host(&format!("kill -9 {pid}"));
    stack.start_daemon();
    nothing_left();
}

#[test]
fn rules_that_somebody_else_flushes_come_back() {
    let stack = Stack::with_busybox();
    server(&stack, "web", 80, &["-p", "8080:80"]);
    asked("127.0.0.1:8080");
    for _ in 0..3 {
        host("nft flush ruleset");
        eventually("the table to be there again", || {
            (!host("nft list tables").trim().is_empty()).then_some(())
        });
        asked("127.0.0.1:8080");
    }
    // Not those of nobody.
    stack.ctl(&["rm", "-f", "web"]).ok();
    nothing_left();
    host("nft add table inet another");
    host("nft flush ruleset");
    nothing_left();
}

#[test]
fn a_failed_start_leaves_nothing() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&["run", "--rm", "-p", "8080:80", BUSYBOX, "nothing-here"])
        .exits(127);
    nothing_left();
    stack
        .ctl(&["run", "--rm", "-p", "10.254.254.254:80:80", BUSYBOX, "true"])
        .exits(125)
        .fails_naming(&["10.254.254.254"]);
    nothing_left();
}

#[test]
fn many_at_once_have_addresses_of_their_own() {
    let stack = Stack::with_busybox();
    let mut children: Vec<_> = (0..12)
        .map(|_| {
            let mut command =
                stack.ctl_command(&["run", "--rm", BUSYBOX, "sh", "-c", "hostname -i; sleep 2"]);
            command
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    for child in &mut children {
        let mut said = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(child.wait().unwrap().success());
        assert!(seen.insert(said.clone()), "{said} twice");
    }
    nothing_left();
    let _ = std::io::stdout().flush();
}
