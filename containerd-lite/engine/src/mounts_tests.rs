use super::*;

/// Kind, source or name, destination, writable.
type Line = (MountKind, &'static str, &'static str, bool);

#[track_caller]
fn check(host: &HostConfig, image: &[&str], want: &[Line]) {
    let image: Vec<String> = image.iter().map(|&path| path.to_owned()).collect();
    let got = plan(host, &image, Vec::new()).unwrap();
    let got: Vec<_> = got
        .iter()
        .map(|mount| {
            let from = if mount.kind == MountKind::Bind {
                &mount.source
            } else {
                &mount.name
            };
            (
                mount.kind,
                from.as_str(),
                mount.destination.as_str(),
                mount.writable,
            )
        })
        .collect();
    assert_eq!(got, want);
}

fn binds(texts: &[&str]) -> HostConfig {
    HostConfig {
        binds: texts.iter().map(|&text| text.to_owned()).collect(),
        ..HostConfig::default()
    }
}

#[track_caller]
fn refused(text: &str, words: &str) {
    let said = plan(&binds(&[text]), &[], Vec::new())
        .unwrap_err()
        .to_string();
    assert!(said.contains(words), "{said}");
}

#[test]
fn short_forms() {
    use MountKind::{Bind, Volume};
    check(&binds(&["/host:/a"]), &[], &[(Bind, "/host", "/a", true)]);
    check(
        &binds(&["/host/../x/:/a/./b/:ro"]),
        &[],
        &[(Bind, "/x", "/a/b", false)],
    );
    check(
        &binds(&["data:/a:nocopy"]),
        &[],
        &[(Volume, "data", "/a", true)],
    );
    check(&binds(&["/a"]), &[], &[(Volume, "", "/a", true)]);
    refused("/a:/b:xx", "invalid mode: xx");
    refused("/a:b", "mount path must be absolute");
    refused("/a:/", "destination can't be '/'");
    refused("a:/b:ro:z", "invalid volume specification: 'a:/b:ro:z'");
    refused(":/b", "invalid volume specification: ':/b'");
    refused("data:/b:rshared", "invalid mode");
}

#[test]
fn parents_come_before_their_children_and_images_volumes_last() {
    use MountKind::{Bind, Volume};
    check(
        &binds(&["/x:/a/b/c", "/y:/a"]),
        &["/a", "/v"],
        &[
            (Bind, "/y", "/a", true),
            (Volume, "", "/v", true),
            (Bind, "/x", "/a/b/c", true),
        ],
    );
}

#[test]
fn one_place_takes_one_mount() {
    let said = plan(&binds(&["/x:/a", "/y:/a/"]), &[], Vec::new()).unwrap_err();
    assert_eq!(said.to_string(), "Duplicate mount point: /a");
}

#[test]
fn inherited_mounts_give_way_to_own_ones() {
    let other = plan(&binds(&["/x:/a", "data:/b"]), &[], Vec::new()).unwrap();
    let inherited = inherit(&other, "ro").unwrap();
    let got = plan(&binds(&["/own:/a"]), &["/b".to_owned()], inherited).unwrap();
    assert_eq!(got.len(), 2);
    let data = got.iter().find(|mount| mount.destination == "/b").unwrap();
    assert!(data.name == "data" && !data.writable);
    assert!(got.iter().any(|mount| mount.source == "/own"));
}

#[test]
fn long_forms_are_checked_by_kind() {
    let request = |kind: &str, source: &str, target: &str| MountRequest {
        kind: kind.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        ..MountRequest::default()
    };
    assert!(of_request(&request("bind", "/x", "/a")).is_ok());
    let words = |request: &MountRequest| of_request(request).unwrap_err().to_string();
    assert_eq!(
        words(&request("bind", "", "/a")),
        "invalid mount config for type \"bind\": field Source must not be empty"
    );
    assert_eq!(
        words(&request("tmpfs", "x", "/a")),
        "invalid mount config for type \"tmpfs\": field Source must not be specified"
    );
    assert!(words(&request("volume", "v", "")).contains("field Target must not be empty"));
    let mut out = request("volume", "v", "/a");
    out.subpath = "../x".to_owned();
    assert!(words(&out).contains("relative path within the volume"));
}

#[test]
fn mounts_become_the_runtimes() {
    let shared = plan(&binds(&["/x:/a:ro,rshared"]), &[], Vec::new()).unwrap();
    assert_eq!(
        oci(&shared[0])["options"],
        json!(["rbind", "rshared", "ro", "rro"])
    );
    assert_eq!(rootfs_propagation(&shared), Some("shared"));
    let tmpfs = parse_tmpfs("/t:size=1m,exec").unwrap();
    assert_eq!(
        oci(&tmpfs)["options"],
        json!(["noexec", "nosuid", "nodev", "size=1m", "exec"])
    );
}
