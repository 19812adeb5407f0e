//! What a command line means, and what is said about one that means nothing.

use std::ffi::OsString;

use super::refusal::{Refusal, refuse};
use super::*;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(ToOwned::to_owned).collect()
}

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    let argv: Vec<OsString> = words(line).into_iter().map(Into::into).collect();
    parse(&argv)
}

fn run_args(line: &str) -> RunArgs {
    match parsed(line).unwrap().action {
        Action::Run(args) => args,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> Refusal {
    let argv = words(line);
    refuse(&command(), &argv, &parsed(line).unwrap_err())
}

#[test]
fn definitions_are_sound() {
    command().debug_assert();
}

#[test]
fn from_the_image_on_nothing_is_a_flag() {
    for (line, rest) in [
        (
            "ctl run busybox -e A=b --rm",
            &["busybox", "-e", "A=b", "--rm"][..],
        ),
        ("ctl run busybox --foo", &["busybox", "--foo"]),
        ("ctl run busybox sh -c x", &["busybox", "sh", "-c", "x"]),
        ("ctl run -- busybox -- x", &["busybox", "--", "x"]),
        ("ctl run busybox --help", &["busybox", "--help"]),
    ] {
        let args = run_args(line);
        assert_eq!(args.settings.image_and_command, rest, "{line}");
        assert!(!args.settings.rm, "{line}");
        assert!(args.settings.env.is_empty(), "{line}");
    }
}

#[test]
fn short_flags_combine() {
    let args = run_args("ctl run -dit --rm -eA=1 -e B=2 -h box -w/x img");
    assert!(args.detach && args.settings.interactive && args.settings.tty && args.settings.rm);
    assert_eq!(args.settings.env, ["A=1", "B=2"]);
    assert_eq!(args.settings.hostname.as_deref(), Some("box"));
    assert_eq!(args.settings.workdir.as_deref(), Some("/x"));
    let args = run_args("ctl run -it -d=false --name a --name b img");
    assert!(!args.detach && args.settings.interactive && args.settings.tty);
    assert_eq!(args.settings.name.as_deref(), Some("b"));
}

#[test]
fn what_was_not_typed_is_absent() {
    let args = run_args("ctl run img");
    assert_eq!(args.settings.pull, None);
    assert_eq!(args.settings.stop_timeout, None);
    assert_eq!(args.settings.entrypoint, None);
    assert_eq!(args.sig_proxy, None);
    let args = run_args("ctl run --entrypoint= --sig-proxy=false --stop-timeout -1 img");
    assert_eq!(args.settings.entrypoint.as_deref(), Some(""));
    assert_eq!(args.sig_proxy, Some(false));
    assert_eq!(
        args.settings.stop_timeout.map(|seconds| seconds.0),
        Some(-1)
    );
}

#[test]
fn management_forms_are_the_same_commands() {
    for line in [
        "ctl container ls -aq",
        "ctl container ps -a -q",
        "ctl container list -qa",
    ] {
        let Action::Container(ContainerAction::Ls(args)) = parsed(line).unwrap().action else {
            panic!("{line}");
        };
        assert!(args.all && args.quiet);
    }
    for line in ["ctl image rm x", "ctl image remove x"] {
        let action = parsed(line).unwrap().action;
        assert!(
            matches!(action, Action::Image(ImageAction::Rm(_))),
            "{line}"
        );
    }
}

/// The texts and codes of docker 28.2 for the same lines.
#[test]
fn refusals_are_dockers() {
    let usage = "Usage:  ctl run [OPTIONS] IMAGE [COMMAND] [ARG...]";
    for (line, first, code) in [
        ("ctl run --foo x", "unknown flag: --foo", 125),
        ("ctl run -x y", "unknown shorthand flag: 'x' in -x", 125),
        ("ctl run --name", "flag needs an argument: --name", 125),
        (
            "ctl run --stop-timeout=z img",
            "invalid argument \"z\" for \"--stop-timeout\" flag: parsing \"z\": invalid syntax",
            125,
        ),
        (
            "ctl run --rm=foo y",
            "invalid argument \"foo\" for \"--rm\" flag: parsing \"foo\": invalid syntax",
            125,
        ),
        (
            "ctl run -dt=foo x",
            "invalid argument \"foo\" for \"-t, --tty\" flag: parsing \"foo\": invalid syntax",
            125,
        ),
        (
            "ctl run -l =b x",
            "invalid argument \"=b\" for \"-l, --label\" flag: invalid label '=b': empty name",
            125,
        ),
        ("ctl run", "ctl: 'ctl run' requires at least 1 argument", 1),
        (
            "ctl run -it",
            "ctl: 'ctl run' requires at least 1 argument",
            1,
        ),
    ] {
        let refusal = refused(line);
        let text = format!("{first}\n\n{usage}\n\nRun 'ctl run --help' for more information\n");
        assert_eq!(
            refusal,
            Refusal {
                text,
                asked_for: false,
                code
            },
            "{line}"
        );
    }
    for (line, first, code) in [
        ("ctl ps x", "ctl: 'ctl ps' accepts no arguments", 1),
        ("ctl logs", "ctl: 'ctl logs' requires 1 argument", 1),
        ("ctl logs a b", "ctl: 'ctl logs' requires 1 argument", 1),
        (
            "ctl images a b",
            "ctl: 'ctl images' requires at most 1 argument",
            1,
        ),
        (
            "ctl exec x",
            "ctl: 'ctl exec' requires at least 2 arguments",
            1,
        ),
        (
            "ctl exec -it",
            "ctl: 'ctl exec' requires at least 2 arguments",
            1,
        ),
        (
            "ctl container rm",
            "ctl: 'ctl container rm' requires at least 1 argument",
            1,
        ),
        ("ctl ps --foo", "unknown flag: --foo", 125),
        ("ctl -H unix:///x stop --foo", "unknown flag: --foo", 125),
        ("ctl --foo", "unknown flag: --foo", 125),
    ] {
        let refusal = refused(line);
        assert_eq!(refusal.text.lines().next(), Some(first), "{line}");
        assert_eq!(refusal.code, code, "{line}");
    }
    assert_eq!(
        refused("ctl nosuch").text,
        "ctl: unknown command: ctl nosuch\n\nRun 'ctl --help' for more information\n"
    );
    assert_eq!(refused("ctl image nosuch").code, 1);
}

#[test]
fn help_has_dockers_layout() {
    let refusal = refused("ctl container stop --help");
    assert!(refusal.asked_for);
    assert_eq!(refusal.code, 0);
    assert_eq!(
        refusal.text,
        "Usage:  ctl container stop [OPTIONS] CONTAINER [CONTAINER...]\n\
         \nStop one or more running containers\n\
         \nAliases:\n  ctl container stop, ctl stop\n\
         \nOptions:\n\
         \x20 -s, --signal string   Signal to send to the container\n\
         \x20 -t, --timeout int     Seconds to wait before killing the container\n"
    );
    let run = refused("ctl run --help").text;
    assert!(
        run.starts_with("Usage:  ctl run [OPTIONS] IMAGE [COMMAND] [ARG...]\n"),
        "{run}"
    );
    assert!(run.contains("\n      --rm  "), "{run}");
    assert!(run.contains("\n  -e, --env list  "), "{run}");
    assert!(run.contains("\n  -h, --hostname string  "), "{run}");
    assert_eq!(refused("ctl help run").text, run);
    let root = refused("ctl").text;
    assert_eq!(root, refused("ctl --help").text);
    assert!(root.contains("\nCommands:\n  run "), "{root}");
    assert!(!root.contains("launch-daemon"), "{root}");
}
