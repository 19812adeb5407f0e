use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[track_caller]
fn check(text: &str, full: &str, familiar: &str) {
    let reference = Reference::parse(text).expect(text);
    assert_eq!(reference.to_string(), full, "full form of {text:?}");
    assert_eq!(reference.familiar(), familiar, "familiar form of {text:?}");
}

#[track_caller]
fn check_bad(text: &str, reason: BadReference) {
    let err = Reference::parse(text).expect_err(text);
    assert_eq!(err.reason, reason, "{text:?}");
    assert_eq!(err.given, text);
}

#[test]
fn short_names_are_completed_as_docker_does() {
    check(
        "busybox",
        "docker.io/library/busybox:latest",
        "busybox:latest",
    );
    check(
        "busybox:1.36",
        "docker.io/library/busybox:1.36",
        "busybox:1.36",
    );
    check(
        "library/busybox",
        "docker.io/library/busybox:latest",
        "busybox:latest",
    );
    check(
        "docker.io/busybox",
        "docker.io/library/busybox:latest",
        "busybox:latest",
    );
    check(
        "index.docker.io/busybox",
        "docker.io/library/busybox:latest",
        "busybox:latest",
    );
    check(
        "index.docker.io/owner/tool:V1",
        "docker.io/owner/tool:V1",
        "owner/tool:V1",
    );
    check(
        "owner/tool",
        "docker.io/owner/tool:latest",
        "owner/tool:latest",
    );
    check(
        "library/a/b",
        "docker.io/library/a/b:latest",
        "library/a/b:latest",
    );
}

#[test]
fn a_first_part_with_a_dot_or_port_or_capital_is_a_registry() {
    check(
        "localhost/app",
        "localhost/app:latest",
        "localhost/app:latest",
    );
    check(
        "localhost:5000/app:t",
        "localhost:5000/app:t",
        "localhost:5000/app:t",
    );
    check(
        "127.0.0.1:5000/a/b",
        "127.0.0.1:5000/a/b:latest",
        "127.0.0.1:5000/a/b:latest",
    );
    check(
        "[::1]:5000/app",
        "[::1]:5000/app:latest",
        "[::1]:5000/app:latest",
    );
    check(
        "[2001:db8::1]/app",
        "[2001:db8::1]/app:latest",
        "[2001:db8::1]/app:latest",
    );
    check(
        "quay.example/app",
        "quay.example/app:latest",
        "quay.example/app:latest",
    );
    check("Host/app", "Host/app:latest", "Host/app:latest");
    // Not a registry: a lone name has no first part.
    check(
        "localhost",
        "docker.io/library/localhost:latest",
        "localhost:latest",
    );
    // A Docker Hub owner that would read as a registry keeps its own.
    check(
        "docker.io/a.b/c",
        "docker.io/a.b/c:latest",
        "docker.io/a.b/c:latest",
    );
    check(
        "docker.io/localhost/c",
        "docker.io/localhost/c:latest",
        "docker.io/localhost/c:latest",
    );
}

#[test]
fn a_digest_stands_in_for_the_default_tag() {
    let reference = Reference::parse(&format!("busybox@{DIGEST}")).expect("digest");
    assert_eq!(reference.tag(), None);
    assert_eq!(reference.digest().map(Digest::as_str), Some(DIGEST));
    check(
        &format!("busybox@{DIGEST}"),
        &format!("docker.io/library/busybox@{DIGEST}"),
        &format!("busybox@{DIGEST}"),
    );
    check(
        &format!("localhost:5000/a:b@{DIGEST}"),
        &format!("localhost:5000/a:b@{DIGEST}"),
        &format!("localhost:5000/a:b@{DIGEST}"),
    );
}

#[test]
fn parts_are_available() {
    let reference = Reference::parse("localhost:5000/a/b:c").expect("parse");
    assert_eq!(reference.domain(), "localhost:5000");
    assert_eq!(reference.path(), "a/b");
    assert_eq!(reference.name(), "localhost:5000/a/b");
    assert_eq!(reference.tag(), Some("c"));
    assert_eq!(reference.digest(), None);
    let pinned = reference.pinned(Digest::parse(DIGEST).expect("digest"));
    assert_eq!(pinned.to_string(), format!("localhost:5000/a/b@{DIGEST}"));
}

#[test]
fn separators_follow_the_grammar() {
    for good in ["a.b", "a_b", "a__b", "a-b", "a---b", "a-b.c_d__e", "0"] {
        assert!(Reference::parse(good).is_ok(), "{good:?}");
    }
    for bad in [
        "a..b", "a___b", "a._b", "a-_b", ".a", "a.", "-a", "a-", "_a", "a_",
    ] {
        check_bad(bad, BadReference::Path);
    }
}

#[test]
fn bad_references_name_the_rule() {
    check_bad("", BadReference::Empty);
    check_bad(":tag", BadReference::Empty);
    check_bad("localhost:5000/", BadReference::Empty);
    check_bad("BusyBox", BadReference::UpperCase);
    check_bad("owner/Tool", BadReference::UpperCase);
    check_bad("/a", BadReference::Path);
    check_bad("a//b", BadReference::Path);
    check_bad("a/../b", BadReference::Path);
    check_bad("a b", BadReference::Path);
    check_bad("a/b/", BadReference::Path);
    check_bad("bu\u{fffd}sybox", BadReference::Path);
    check_bad("a:", BadReference::Tag);
    check_bad("a:.b", BadReference::Tag);
    check_bad("a:b:c", BadReference::Tag);
    check_bad("a:b/c", BadReference::Domain);
    check_bad("a@sha256:12", BadReference::Digest);
    check_bad(&format!("a@{DIGEST}@{DIGEST}"), BadReference::Digest);
    check_bad("host:port/a", BadReference::Domain);
    check_bad("host:65536/a", BadReference::Domain);
    check_bad("host:/a", BadReference::Domain);
    check_bad("host:+1/a", BadReference::Domain);
    check_bad("-a.b/c", BadReference::Domain);
    check_bad("a..b/c", BadReference::Domain);
    check_bad("[::1/a", BadReference::Domain);
    check_bad("[::zz]/a", BadReference::Domain);
    check_bad("[::1]x:1/a", BadReference::Domain);
    check_bad(&"ab".repeat(32), BadReference::ImageId);
}

#[test]
fn lengths_are_limited() {
    let path = format!("o/{}", "a".repeat(253));
    assert!(Reference::parse(&path).is_ok());
    check_bad(&format!("{path}a"), BadReference::PathTooLong);
    assert!(Reference::parse(&format!("a:{}", "t".repeat(128))).is_ok());
    check_bad(&format!("a:{}", "t".repeat(129)), BadReference::Tag);
    let host = format!("{}.b", "a".repeat(300));
    check_bad(&format!("{host}/a"), BadReference::DomainTooLong);
}

#[test]
fn the_error_is_one_line_that_names_the_text() {
    let err = Reference::parse("Busy\nBox").expect_err("parse");
    assert_eq!(
        err.to_string(),
        "invalid reference \"Busy\\nBox\": the repository name must be lower case"
    );
}

proptest! {
    #[test]
    fn both_forms_parse_back_to_the_same_reference(
        domain in prop::option::of("(localhost|[a-zA-Z0-9]{1,5}\\.[a-z]{1,3}|docker\\.io)(:[1-9][0-9]{0,3})?"),
        path in "(library|localhost|[a-z0-9]{1,6})(([._]|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,4}){0,3}",
        tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"),
        pinned in any::<bool>(),
    ) {
        let mut text = domain.map_or_else(String::new, |d| d + "/") + &path;
        if let Some(tag) = &tag {
            text = text + ":" + tag;
        }
        if pinned {
            text = text + "@" + DIGEST;
        }
        // A path such as `a_b.c/d` reads as one that starts with a registry.
        let Ok(reference) = Reference::parse(&text) else {
            prop_assert!(text.contains('.') || text.contains("--"), "{}", text);
            return Ok(());
        };
        prop_assert_eq!(&Reference::parse(&reference.to_string()), &Ok(reference.clone()));
        prop_assert_eq!(&Reference::parse(&reference.familiar()), &Ok(reference.clone()));
        prop_assert!(reference.tag().is_some() || reference.digest().is_some());
    }

    #[test]
    fn no_text_panics_and_what_parses_is_normal(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,40}|\\PC{0,20}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(&Reference::parse(&reference.to_string()), &Ok(reference.clone()));
            prop_assert!(!reference.name().contains(".."));
        }
    }
}
