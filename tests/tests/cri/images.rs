//! Images by CRI: pulled, found under every name, listed and removed.

use proto::runtime::v1 as wire;
use serde_json::json;
use tests::image::Image;
use tests::kubelet::{self, Kubelet, spec};
use tests::need::{self, Need};
use tests::registry::{PASSWORD, Registry, USER};
use tonic::Code;

fn status(kubelet: &Kubelet, typed: &str) -> Option<wire::Image> {
    let request = wire::ImageStatusRequest {
        image: Some(spec(typed)),
        verbose: false,
    };
    kubelet.ok(kubelet.images().image_status(request)).image
}

fn list(kubelet: &Kubelet) -> Vec<wire::Image> {
    let request = wire::ListImagesRequest::default();
    kubelet.ok(kubelet.images().list_images(request)).images
}

fn remove(kubelet: &Kubelet, typed: &str) {
    let image = Some(spec(typed));
    let request = wire::RemoveImageRequest { image };
    kubelet.ok(kubelet.images().remove_image(request));
}

#[test]
fn a_pulled_image_goes_by_tag_digest_and_id() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    let registry = Registry::start(stack.scratch());
    let image = Image::busybox().with("User", json!("1002:5"));
    let digest = registry.put(stack.scratch(), &image, "demo:1", &[]);
    let tag = registry.reference("demo:1");
    assert_eq!(status(&kubelet, &tag), None);
    let id = kubelet.pull(&tag);
    assert_eq!(id, image.id());

    let by_digest = format!("{}@{digest}", registry.reference("demo"));
    let short = &id["sha256:".len()..][..12];
    let found = status(&kubelet, &tag).expect("by its tag");
    assert_eq!(found.id, id);
    assert_eq!(found.repo_tags, [tag.as_str()]);
    assert_eq!(found.repo_digests, [by_digest.as_str()]);
    assert_eq!(found.uid, Some(wire::Int64Value { value: 1002 }));
    assert_eq!(found.username, "");
    assert!(found.size > 100_000, "{}", found.size);
    for name in [by_digest.as_str(), &id, &id["sha256:".len()..], short] {
        assert_eq!(status(&kubelet, name).as_ref(), Some(&found), "{name}");
    }
    assert_eq!(list(&kubelet), std::slice::from_ref(&found));
    let streamed = kubelet.all(
        kubelet
            .images()
            .stream_images(wire::StreamImagesRequest::default()),
    );
    assert_eq!(streamed[0].images, [found]);

    let verbose = wire::ImageStatusRequest {
        image: Some(spec(&tag)),
        verbose: true,
    };
    let info = kubelet.ok(kubelet.images().image_status(verbose)).info;
    let info: serde_json::Value = serde_json::from_str(&info["info"]).expect("JSON");
    assert_eq!(info["imageSpec"]["config"]["User"], "1002:5");
    // Docker's containers have images of their own.
    assert!(!stack.ctl(&["images"]).ok().contains("demo"));
}

#[test]
fn a_tag_that_moved_on_leaves_the_old_image_until_it_is_removed() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    let registry = Registry::start(stack.scratch());
    let tag = registry.reference("demo:1");
    let named = |user: &str| Image::busybox().with("User", json!(user));
    registry.put(stack.scratch(), &named("old"), "demo:1", &[]);
    let old = kubelet.pull(&tag);
    registry.put(stack.scratch(), &named("new"), "demo:1", &[]);
    let new = kubelet.pull(&tag);
    assert_ne!(old, new);
    assert_eq!(status(&kubelet, &tag).expect("the tag").id, new);
    let left = status(&kubelet, &old).expect("the old image");
    assert_eq!((left.repo_tags.len(), left.repo_digests.len()), (0, 1));
    assert_eq!(left.username, "old");

    remove(&kubelet, &old);
    assert_eq!(status(&kubelet, &old), None);
    remove(&kubelet, &tag);
    assert_eq!(list(&kubelet), []);
    // What is gone can be removed.
    remove(&kubelet, &tag);
    let content = stack.ctr(&["-n", "k8s.io", "content", "ls", "-q"]).ok();
    assert_eq!(content, "", "nothing of them stays");
}

#[test]
fn credentials_open_a_registry_and_wrong_ones_do_not() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    let registry = Registry::guarded(stack.scratch());
    let login = format!("--dest-creds={USER}:{PASSWORD}");
    registry.put(stack.scratch(), &Image::busybox(), "demo:1", &[&login]);
    let tag = registry.reference("demo:1");
    let pull = |auth: wire::AuthConfig| {
        let request = wire::PullImageRequest {
            image: Some(spec(&tag)),
            auth: Some(auth),
            sandbox_config: None,
        };
        kubelet.ask(kubelet.images().pull_image(request))
    };
    let typed = |password: &str| wire::AuthConfig {
        username: USER.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    };
    let refused = |answer: Result<_, tonic::Status>| answer.map(|_: wire::PullImageResponse| ());
    for auth in [wire::AuthConfig::default(), typed("wrong")] {
        let said = refused(pull(auth)).unwrap_err();
        assert_eq!(said.code(), Code::Unauthenticated, "{}", said.message());
        assert!(!said.message().contains("wrong"), "{}", said.message());
    }
    // me:secret
    let coded = wire::AuthConfig {
        auth: "bWU6c2VjcmV0".to_owned(),
        ..Default::default()
    };
    pull(coded).expect("a coded pair");
    remove(&kubelet, &tag);
    pull(typed(PASSWORD)).expect("a pair");
}

#[test]
fn a_reference_that_is_none_and_an_image_that_is_nowhere_are_told_apart() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    let registry = Registry::start(stack.scratch());
    let pull = |name: &str| {
        let request = wire::PullImageRequest {
            image: Some(spec(name)),
            ..Default::default()
        };
        let answer = kubelet.ask(kubelet.images().pull_image(request));
        answer.unwrap_err().code()
    };
    assert_eq!(pull("No Name"), Code::InvalidArgument);
    assert_eq!(pull(&registry.reference("nothing:1")), Code::NotFound);
}

#[test]
fn the_file_system_of_images_grows_with_them() {
    if need::skip(&[Need::Registry]) {
        return;
    }
    let stack = kubelet::stack();
    let kubelet = Kubelet::of(&stack);
    let registry = Registry::start(stack.scratch());
    registry.put(stack.scratch(), &Image::busybox(), "demo:1", &[]);
    let used = || {
        let request = wire::ImageFsInfoRequest {};
        let told = kubelet.ok(kubelet.images().image_fs_info(request));
        assert_eq!(told.image_filesystems, told.container_filesystems);
        let one = &told.image_filesystems[0];
        let at = one.fs_id.as_ref().expect("a directory").mountpoint.clone();
        assert!(std::path::Path::new(&at).is_dir(), "{at}");
        assert!(one.timestamp > 0);
        (
            one.used_bytes.expect("bytes").value,
            one.inodes_used.expect("inodes").value,
        )
    };
    assert_eq!(used(), (0, 0));
    kubelet.pull(&registry.reference("demo:1"));
    let (bytes, inodes) = used();
    assert!(bytes > 100_000 && inodes > 1, "{bytes} {inodes}");
}
