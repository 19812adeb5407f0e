use super::*;
use crate::version;

const NEWEST: &str = r#"{
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "cni0", "mac": "02:00:00:00:00:01", "mtu": 1500},
        {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/x", "socketPath": "/s", "pciID": "0000:00:1f.6"}
    ],
    "ips": [
        {"interface": 1, "address": "10.1.2.3/24", "gateway": "10.1.2.1"},
        {"interface": 1, "address": "fd00::3/64"}
    ],
    "routes": [
        {"dst": "0.0.0.0/0", "gw": "10.1.2.1", "mtu": 1400, "advmss": 1360, "priority": 7, "table": 50, "scope": 253},
        {"dst": "::/0"}
    ],
    "dns": {"nameservers": ["10.1.2.1"], "domain": "x.test", "search": ["y.test"], "options": ["ndots:2"]}
}"#;

#[test]
fn nothing_is_lost_in_the_newest_form() {
    let outcome = Outcome::parse(NEWEST.as_bytes()).expect("it is good");
    let expected: Value = serde_json::from_str(NEWEST).expect("it is JSON");
    assert_eq!(outcome.to_json(Version::V1_1_0), expected);
}

#[test]
fn every_version_reads_what_it_writes() {
    let outcome = Outcome::parse(NEWEST.as_bytes()).expect("it is good");
    for version in version::ALL {
        let written = outcome.to_json(version);
        let again = Outcome::parse(written.to_string().as_bytes()).expect("it can be read");
        assert_eq!(again.to_json(version), written, "{version}");
        assert_eq!(again.dns, outcome.dns, "{version}");
        let addresses: Vec<_> = again.ips.iter().map(|ip| ip.address).collect();
        assert_eq!(addresses.len(), 2, "{version}");
    }
}

#[test]
fn each_form_is_that_of_its_version() {
    let outcome = Outcome::parse(NEWEST.as_bytes()).expect("it is good");
    let old = outcome.to_json(Version::V0_2_0);
    assert_eq!(old["ip4"]["ip"], "10.1.2.3/24");
    assert_eq!(
        old["ip4"]["routes"],
        serde_json::json!([{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}])
    );
    assert_eq!(old["ip6"]["routes"], serde_json::json!([{"dst": "::/0"}]));
    assert!(old.get("ips").is_none() && old.get("interfaces").is_none());

    let listed = outcome.to_json(Version::V0_3_1);
    assert_eq!(listed["ips"][1]["version"], "6");
    assert!(listed["interfaces"][0].get("mtu").is_none());

    let first = outcome.to_json(Version::V1_0_0);
    assert!(first["ips"][1].get("version").is_none());
    assert!(first["routes"][0].get("mtu").is_none());
    assert!(first["interfaces"][1].get("pciID").is_none());
}

#[test]
fn go_writes_null_for_what_is_empty() {
    let text =
        br#"{"cniVersion": "1.0.0", "interfaces": null, "ips": null, "routes": null, "dns": {}}"#;
    assert_eq!(
        Outcome::parse(text).expect("it is good"),
        Outcome::default()
    );
}

#[test]
fn only_the_inner_interface_counts() {
    let outcome = Outcome::parse(
        br#"{"cniVersion": "0.4.0",
            "interfaces": [{"name": "eth0"}, {"name": "eth0", "sandbox": "/n"}, {"name": "net1", "sandbox": "/n"}],
            "ips": [{"version": "4", "interface": 0, "address": "10.0.0.1/8"},
                    {"version": "4", "interface": 1, "address": "10.0.0.2/8"},
                    {"version": "4", "interface": 2, "address": "10.0.0.3/8"},
                    {"version": "4", "interface": 9, "address": "10.0.0.4/8"},
                    {"version": "4", "interface": -1, "address": "10.0.0.5/8"}]}"#,
    )
    .expect("it is good");
    let addresses: Vec<_> = outcome
        .addresses_of("eth0")
        .map(|a| a.to_string())
        .collect();
    assert_eq!(addresses, ["10.0.0.2", "10.0.0.4", "10.0.0.5"]);
}

#[track_caller]
fn refused(text: &str, why: &str) {
    let err = Outcome::parse(text.as_bytes()).expect_err(text);
    assert_eq!(err.to_string(), why);
}

#[test]
fn lies_are_refused() {
    refused("", "result is not a CNI result");
    refused("<html>", "result is not a CNI result");
    refused(
        r#"{"ips": [{"address": "10.0.0.1/99"}]}"#,
        "result is not a CNI result",
    );
    refused(r#"{"ips": 5}"#, "result is not a CNI result");
    refused(&"[".repeat(100_000), "result is not a CNI result");
    refused(
        r#"{"cniVersion": "3.0.0"}"#,
        "CNI version \"3.0.0\" is unknown: known are 0.1.0 to 0.4.0, 1.0.0 and 1.1.0",
    );
}

proptest::proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in ".{0,200}") {
        let _ = Outcome::parse(text.as_bytes());
    }
}
