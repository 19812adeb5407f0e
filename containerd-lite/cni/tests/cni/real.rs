//! Debian's plugins, in a network of the test's own: a thread with a network
//! namespace plays the host, so that bridge and firewall are made there, and
//! one that sleeps in another plays the pod.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use cni::attachment::{Capabilities, PortMapping};
use cni::{Attachment, Client, Network};
use tempfile::TempDir;

/// `CLONE_NEWNET` of `unshare(2)`.
const NEWNET: u64 = 0x4000_0000;

/// Where Debian puts its plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// A pod's network namespace, for as long as it lives.
struct Pod {
    path: PathBuf,
    _end: mpsc::Sender<()>,
}

impl Pod {
    fn new() -> Self {
        let (end, ended) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            kernel::process::unshare(NEWNET).expect("the test is root");
            let own = fs::read_link("/proc/thread-self").expect("there is /proc");
            tell.send(Path::new("/proc").join(own).join("ns/net"))
                .expect("the test waits");
            let _ = ended.recv();
        });
        Self {
            path: told.recv().expect("the thread tells"),
            _end: end,
        }
    }

    /// What `ip` prints inside.
    fn ip(&self, args: &str) -> String {
        let path = self.path.clone();
        let args: Vec<String> = args.split(' ').map(str::to_owned).collect();
        let shown = thread::spawn(move || {
            let netns = File::open(path).expect("the pod is there");
            kernel::process::setns(netns.as_fd(), NEWNET).expect("the test is root");
            output("ip", &args)
        });
        shown.join().expect("ip runs")
    }
}

fn output(program: &str, args: &[String]) -> String {
    let out = Command::new(program)
        .args(args)
        .output()
        .expect("it can be run");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Runs `test` on a thread whose network is its own.
fn on_a_host_of_its_own<F: Future<Output = ()>>(test: impl FnOnce(TempDir) -> F + Send) {
    thread::scope(|scope| {
        let host = scope.spawn(|| {
            kernel::process::unshare(NEWNET).expect("the test is root");
            kernel::netdev::loopback_up().expect("the test is root");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("it can be made");
            runtime.block_on(test(tempfile::tempdir().expect("it can be made")));
        });
        if let Err(panic) = host.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn client(dir: &TempDir) -> Client {
    Client::new(vec![PLUGINS.into()], &dir.path().join("cache"))
}

/// With addresses of one family.
fn pods(dir: &TempDir, version: &str) -> Network {
    with_ranges(dir, version, &["10.213.7.0/24"])
}

fn with_ranges(dir: &TempDir, version: &str, subnets: &[&str]) -> Network {
    let ranges: Vec<_> = subnets
        .iter()
        .map(|subnet| serde_json::json!([{"subnet": subnet}]))
        .collect();
    let list = serde_json::json!({
    "cniVersion": version, "name": "pods",
    "plugins": [
        {"type": "bridge", "bridge": "cnitest0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
         "capabilities": {"mac": true, "ips": true},
         "ipam": {"type": "host-local", "dataDir": dir.path().join("ipam"),
                  "ranges": ranges,
                  "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": true}},
        {"type": "firewall"},
    ]});
    Network::parse_list(list.to_string().as_bytes()).expect("it is good")
}

fn web(pod: &Pod) -> Attachment {
    let attachment = Attachment::new("web", "eth0")
        .expect("it is good")
        .in_netns(&pod.path);
    attachment.with_capabilities(Capabilities {
        mac: Some("02:42:0a:d5:07:09".to_owned()),
        port_mappings: vec![PortMapping {
            host_port: 18_080,
            container_port: 80,
            protocol: "tcp".to_owned(),
            host_ip: String::new(),
        }],
        ..Capabilities::default()
    })
}

fn leases(dir: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(dir.path().join("ipam/pods")).expect("host-local made it");
    let names = entries.map(|e| {
        e.expect("readable")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    names.filter(|name| name.contains("213")).collect()
}

#[test]
fn a_pod_gets_an_address_a_port_and_loses_them() {
    on_a_host_of_its_own(|dir| async move {
        let pod = Pod::new();
        let (network, web) = (pods(&dir, "1.0.0"), web(&pod));
        let outcome = client(&dir).add(&network, &web).await.expect("it is added");
        let addresses: Vec<_> = outcome.addresses_of("eth0").collect();
        assert_eq!(addresses, [Ipv4Addr::new(10, 213, 7, 2)]);
        let shown = pod.ip("addr show eth0");
        assert!(shown.contains("inet 10.213.7.2/24"), "{shown}");
        assert!(shown.contains("02:42:0a:d5:07:09"), "{shown}");
        assert!(
            pod.ip("route").contains("default via 10.213.7.1"),
            "{shown}"
        );
        assert_eq!(leases(&dir), ["10.213.7.2"]);
        let rules =
            || output("iptables-save", &[]) + &output("nft", &["list".into(), "ruleset".into()]);
        assert!(rules().contains("18080"), "{}", rules());

        client(&dir)
            .del(&network, &web)
            .await
            .expect("it is taken off");
        assert_eq!(pod.ip("addr show eth0"), "");
        assert_eq!(leases(&dir), Vec::<String>::new());
        assert!(!rules().contains("18080"), "{}", rules());
        client(&dir)
            .del(&network, &web)
            .await
            .expect("once more is fine");
    });
}

/// Without ports: Debian's portmap asks for rules of both families.
#[test]
fn a_check_finds_an_address_that_is_gone() {
    on_a_host_of_its_own(|dir| async move {
        let pod = Pod::new();
        let network = pods(&dir, "1.0.0");
        let web = Attachment::new("web", "eth0").expect("it is good");
        let web = web.in_netns(&pod.path);
        client(&dir).add(&network, &web).await.expect("it is added");
        client(&dir)
            .check(&network, &web)
            .await
            .expect("it is as it was");
        pod.ip("addr del 10.213.7.2/24 dev eth0");
        let broken = client(&dir).check(&network, &web).await;
        broken.expect_err("its address is gone");
        client(&dir)
            .del(&network, &web)
            .await
            .expect("it is taken off");
    });
}

#[test]
fn every_version_that_the_plugins_speak_works() {
    on_a_host_of_its_own(|dir| async move {
        let network = pods(&dir, "1.0.0");
        let spoken = client(&dir)
            .versions(&network, &network.plugins[0])
            .await
            .expect("it answers");
        assert!(spoken.len() > 3, "{spoken:?}");
        for version in spoken.iter().filter(|version| version.as_str() >= "0.3.0") {
            let pod = Pod::new();
            let mut network = with_ranges(&dir, version, &["10.213.7.0/24", "fd00:213::/64"]);
            let web = web(&pod);
            // Newer than the others.
            network
                .plugins
                .retain(|p| p.kind != "firewall" || version.as_str() >= "0.4.0");
            let outcome = client(&dir).add(&network, &web).await;
            let outcome = outcome.unwrap_or_else(|err| panic!("{version}: {err:?}"));
            assert_eq!(
                outcome.addresses_of("eth0").count(),
                2,
                "{version}: {outcome:?}"
            );
            let deleted = client(&dir).del(&network, &web).await;
            deleted.unwrap_or_else(|err| panic!("{version}: {err:?}"));
            assert_eq!(leases(&dir), Vec::<String>::new(), "{version}");
        }
    });
}

#[test]
fn a_pod_whose_namespace_is_gone_gives_its_address_back() {
    on_a_host_of_its_own(|dir| async move {
        let pod = Pod::new();
        let (network, web) = (pods(&dir, "1.0.0"), web(&pod));
        client(&dir).add(&network, &web).await.expect("it is added");
        let path = pod.path.clone();
        drop(pod);
        for _ in 0..600 {
            if !path.exists() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        // By a client that only knows what is on disk.
        client(&dir)
            .gc(&network, &[])
            .await
            .expect("it is cleared away");
        assert_eq!(leases(&dir), Vec::<String>::new());
    });
}

#[test]
fn loopback_is_brought_up() {
    on_a_host_of_its_own(|dir| async move {
        let pod = Pod::new();
        assert!(pod.ip("link show lo").contains("state DOWN"));
        let lo = Attachment::new("web", "lo")
            .expect("it is good")
            .in_netns(&pod.path);
        client(&dir)
            .add(&Network::loopback(), &lo)
            .await
            .expect("it is added");
        assert!(pod.ip("addr show lo").contains("127.0.0.1/8"));
        client(&dir)
            .del(&Network::loopback(), &lo)
            .await
            .expect("it is taken off");
    });
}

#[test]
fn when_addresses_run_out_the_plugin_says_so_and_nothing_stays() {
    on_a_host_of_its_own(|dir| async move {
        let list = serde_json::json!({
            "cniVersion": "1.0.0", "name": "pods",
            "plugins": [{"type": "bridge", "bridge": "cnitest0",
                "ipam": {"type": "host-local", "dataDir": dir.path().join("ipam"),
                         "ranges": [[{"subnet": "10.213.7.0/24", "rangeStart": "10.213.7.9", "rangeEnd": "10.213.7.9"}]]}}]});
        let network = Network::parse_list(list.to_string().as_bytes()).expect("it is good");
        let (first, second) = (Pod::new(), Pod::new());
        let attach = |name: &str, pod: &Pod| {
            Attachment::new(name, "eth0")
                .expect("it is good")
                .in_netns(&pod.path)
        };
        let client = client(&dir);
        client
            .add(&network, &attach("a", &first))
            .await
            .expect("there is one");
        let err = client
            .add(&network, &attach("b", &second))
            .await
            .expect_err("there is none left");
        let refusal = err.refusal().expect("the plugin says so");
        assert!(
            refusal.message.contains("no IP addresses available"),
            "{refusal}"
        );
        assert_eq!(second.ip("addr show eth0"), "");
        client
            .del(&network, &attach("a", &first))
            .await
            .expect("it is taken off");
        client
            .add(&network, &attach("b", &second))
            .await
            .expect("now there is");
    });
}
