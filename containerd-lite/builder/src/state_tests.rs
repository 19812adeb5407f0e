use super::*;
use crate::dockerfile;

const FROM: &str = "FROM a\n";

/// The state after `text`, and what the instructions came to.
fn run_with(
    text: &str,
    image: ImageConfig,
    build_args: &[(&str, &str)],
) -> Result<(ImageConfig, Vec<Taken>), Mistake> {
    let file = dockerfile::parse(&format!("{FROM}{text}")).unwrap();
    let global = BTreeMap::from([("G".to_owned(), "global".to_owned())]);
    let build_args = build_args
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let (mut state, triggers) = State::begin(
        image,
        &global,
        &build_args,
        file.escape,
        &file.instructions[0],
    )?;
    let mut taken = Vec::new();
    for instruction in triggers.iter().chain(&file.instructions[1..]) {
        taken.push(state.take(instruction)?);
    }
    Ok((state.image, taken))
}

fn run(text: &str) -> (ImageConfig, Vec<Taken>) {
    run_with(text, ImageConfig::default(), &[]).unwrap()
}

fn run_op(taken: &Taken) -> &RunOp {
    match taken.op.as_ref() {
        Some(Op::Run(op)) => op,
        other => panic!("{other:?}"),
    }
}

#[test]
fn variables_come_from_env_then_arg() {
    let (image, _) = run("ARG A=arg\nARG B=2\nENV A=env B=$A C=${B}\nLABEL l=$A-$B-$C");
    assert_eq!(image.config.variable("A"), Some("env"));
    // Values of one line do not see each other.
    assert_eq!(image.config.variable("B"), Some("arg"));
    assert_eq!(image.config.variable("C"), Some("2"));
    assert_eq!(image.config.labels.unwrap()["l"], "env-arg-2");
}

#[test]
fn arguments_are_declared_to_be_seen() {
    let (image, taken) = run_with(
        "ENV before=$X\nARG X\nARG G\nARG Y=def\nENV x=$X g=$G y=$Y\nRUN z",
        ImageConfig::default(),
        &[("X", "given"), ("Y", "over"), ("HTTP_PROXY", "p")],
    )
    .unwrap();
    for (name, want) in [
        ("before", ""),
        ("x", "given"),
        ("g", "global"),
        ("y", "over"),
    ] {
        assert_eq!(image.config.variable(name), Some(want), "{name}");
    }
    let op = run_op(taken.last().unwrap());
    assert!(op.env.contains(&"X=given".to_owned()));
    assert_eq!(op.unkeyed_env, ["HTTP_PROXY=p"]);
    assert_eq!(
        taken.last().unwrap().history,
        "RUN |3 X=given G=global Y=over /bin/sh -c z"
    );
}

#[test]
fn an_entrypoint_drops_the_bases_command_only() {
    let base = ImageConfig {
        config: crate::config::Config {
            cmd: Some(vec!["base".to_owned()]),
            ..crate::config::Config::default()
        },
        ..ImageConfig::default()
    };
    let (image, _) = run_with("ENTRYPOINT [\"e\"]", base.clone(), &[]).unwrap();
    assert_eq!(image.config.cmd, None);
    let (image, _) = run_with("CMD own\nENTRYPOINT [\"e\"]", base, &[]).unwrap();
    assert_eq!(image.config.cmd.unwrap(), ["/bin/sh", "-c", "own"]);
    assert_eq!(image.config.entrypoint.unwrap(), ["e"]);
}

#[test]
fn directories_and_shells_hold_for_what_follows() {
    let (image, taken) = run(
        "WORKDIR /a\nWORKDIR b/../c\nSHELL [\"/bin/bash\", \"-c\"]\nRUN x\nUSER u:g\nRUN [\"y\"]",
    );
    assert_eq!(image.config.working_dir, "/a/c");
    assert_eq!(
        taken[1].op,
        Some(Op::MakeDir {
            path: "/a/c".to_owned()
        })
    );
    let first = run_op(&taken[3]);
    assert_eq!(
        (first.argv.join(" ").as_str(), first.cwd.as_str()),
        ("/bin/bash -c x", "/a/c")
    );
    let second = run_op(&taken[5]);
    assert_eq!(
        (second.argv.as_slice(), second.user.as_str()),
        (&["y".to_owned()][..], "u:g")
    );
}

#[test]
fn scripts_in_here_documents() {
    let (_, taken) = run("RUN <<E\na\nb\nE\nRUN <<E\n#!/usr/bin/env python\nE\nRUN cat <<E\nx\nE");
    assert_eq!(run_op(&taken[0]).argv, ["/bin/sh", "-c", "a\nb\n"]);
    assert_eq!(run_op(&taken[1]).argv, ["/dev/pipes/E"]);
    assert!(run_op(&taken[1]).script.is_some());
    assert_eq!(run_op(&taken[2]).argv[2], "cat <<E\nx\nE");
}

#[test]
fn copies_are_resolved() {
    let (_, taken) = run(
        "WORKDIR /w\nENV D=dir\nCOPY --chown=$D --chmod=u+x a \"b c\" ${D}/\nCOPY a .\nCOPY a /x\nCOPY <<E /f\n$D\nE\nCOPY <<'E' /f\n$D\nE",
    );
    let copy = |index: usize| match taken[index].op.as_ref() {
        Some(Op::Copy(op)) => op.clone(),
        other => panic!("{other:?}"),
    };
    let first = copy(2);
    assert_eq!(
        (first.destination.as_str(), first.into_directory),
        ("/w/dir", true)
    );
    assert_eq!(first.owner.as_deref(), Some("dir"));
    assert_eq!(first.sources[1], CopySource::Path("b c".to_owned()));
    assert_eq!(
        (copy(3).destination.as_str(), copy(3).into_directory),
        ("/w", true)
    );
    assert_eq!(
        (copy(4).destination.as_str(), copy(4).into_directory),
        ("/x", false)
    );
    let text = |op: CopyOp| match &op.sources[0] {
        CopySource::Inline { content, .. } => content.clone(),
        CopySource::Path(text) | CopySource::Address(text) => text.clone(),
    };
    assert_eq!(
        (text(copy(5)).as_str(), text(copy(6)).as_str()),
        ("dir\n", "$D\n")
    );
}

#[test]
fn triggers_run_first_and_are_gone() {
    let (built, _) = run("ONBUILD ENV T=1\nONBUILD RUN x");
    assert_eq!(
        built.config.on_build.as_deref().unwrap(),
        ["ENV T=1", "RUN x"]
    );
    let (image, taken) = run_with("ENV U=$T", built, &[]).unwrap();
    assert_eq!(image.config.variable("U"), Some("1"));
    assert_eq!((taken.len(), image.config.on_build), (3, None));
}

#[test]
fn the_rest_of_the_configuration() {
    let (image, _) = run(
        "ENV P=\"80 443/udp\"\nEXPOSE $P 9000-9001\nVOLUME /v\nSTOPSIGNAL SIGINT\nHEALTHCHECK --retries=3 CMD x",
    );
    let ports: Vec<_> = image.config.exposed_ports.unwrap().into_keys().collect();
    assert_eq!(ports, ["443/udp", "80/tcp", "9000/tcp", "9001/tcp"]);
    assert!(image.config.volumes.unwrap().contains_key("/v"));
    assert_eq!(image.config.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(image.config.healthcheck.unwrap().retries, 3);
}

#[test]
fn mistakes_are_told_at_their_line() {
    for (text, says) in [
        ("EXPOSE x", "invalid port"),
        ("ENV A=${B:?needed}", "needed"),
        ("RUN --network=x y", "--network=x"),
        ("RUN --mount=type=zip,target=/a y", "zip"),
        ("COPY a b /c", "more than one source"),
        ("COPY --chmod=x a b", "chmod"),
    ] {
        let mistake = run_with(text, ImageConfig::default(), &[]).unwrap_err();
        assert_eq!(mistake.place.line, 2, "{text}");
        assert!(mistake.message.contains(says), "{mistake}");
    }
}

#[test]
fn a_configuration_is_changed_outside_a_build() {
    let (before, _) = run("ENV A=1\nCMD [\"old\"]");
    let changes = [
        "ENV B=\"$A 2\"",
        "expose 80 90/udp",
        "ENTRYPOINT [\"/bin/sh\", \"-c\"]",
        "WORKDIR /a\nWORKDIR b",
        "ONBUILD RUN echo hi",
        "LABEL one=1",
    ];
    let after = change(before.clone(), &changes.map(str::to_owned)).unwrap();
    let config = after.config;
    assert_eq!(config.variable("B"), Some("1 2"));
    let ports: Vec<_> = config.exposed_ports.unwrap().into_keys().collect();
    assert_eq!(ports, ["80/tcp", "90/udp"]);
    // As in a Dockerfile: the old command was another entrypoint's.
    assert_eq!(config.cmd, None);
    assert_eq!(config.working_dir, "/a/b");
    assert_eq!(config.on_build.unwrap(), ["RUN echo hi"]);
    assert_eq!(config.labels.unwrap()["one"], "1");
    for (bad, why) in [
        ("RUN x", "RUN is not a valid change command"),
        ("FROM x", "FROM is not a valid change command"),
        ("SURELY x", "SURELY"),
    ] {
        let mistake = change(before.clone(), &[bad.to_owned()]).unwrap_err();
        assert!(mistake.message.contains(why), "{mistake}");
    }
}
