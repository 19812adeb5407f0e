use super::*;
use crate::dockerfile::line::Heredoc;

/// The instructions after a first `FROM`.
fn all(text: &str) -> Vec<Instruction> {
    let file = parse(&format!("FROM a\n{text}")).unwrap();
    file.instructions
        .into_iter()
        .skip(1)
        .map(|i| i.value)
        .collect()
}

fn one(text: &str) -> Instruction {
    all(text).remove(0)
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

/// The mistake of a Dockerfile that follows `FROM a`: line, column and words.
#[track_caller]
fn wrong(text: &str, line: usize, column: usize, says: &str) {
    let mistake = parse(&format!("FROM a\n{text}")).unwrap_err();
    assert_eq!(
        (mistake.place.line, mistake.place.column),
        (line, column),
        "{mistake}"
    );
    assert!(mistake.message.contains(says), "{mistake}");
}

#[test]
fn stages() {
    let from = |text: &str| match &parse(text).unwrap().instructions[0].value {
        Instruction::From(from) => from.clone(),
        other => panic!("{other:?}"),
    };
    let plain = From {
        platform: None,
        base: "busybox:1".to_owned(),
        name: None,
    };
    assert_eq!(from("FROM busybox:1"), plain);
    let named = From {
        platform: Some("linux/$ARCH".to_owned()),
        base: "${BASE}".to_owned(),
        name: Some("build-1".to_owned()),
    };
    assert_eq!(
        from("from --platform=linux/$ARCH ${BASE} as Build-1"),
        named
    );
    for bad in ["FROM a b", "FROM a AS", "FROM a AS 1x", "FROM a AS b c"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_first_stage_begins_with_from() {
    assert!(parse("ARG V=1\nFROM a:$V").is_ok());
    assert_eq!(parse("RUN x\nFROM a").unwrap_err().place.line, 1);
    assert!(parse("").unwrap_err().message.contains("empty"));
    assert!(parse("# only\n").unwrap_err().message.contains("empty"));
    assert!(parse("ARG a").unwrap_err().message.contains("no FROM"));
}

#[test]
fn commands_in_both_forms() {
    assert_eq!(
        one("CMD [\"a\", \"b c\"]"),
        Instruction::Cmd(Command::Exec(strings(&["a", "b c"])))
    );
    assert_eq!(
        one("ENTRYPOINT exec top -b"),
        Instruction::Entrypoint(Command::Shell("exec top -b".to_owned()))
    );
    assert_eq!(
        one("CMD ['a']"),
        Instruction::Cmd(Command::Shell("['a']".to_owned()))
    );
    let file = parse("FROM a\nCMD ['a']").unwrap();
    assert_eq!(file.warnings[0].place, Place { line: 2, column: 5 });
    assert_eq!(
        one("SHELL [\"/bin/bash\", \"-c\"]"),
        Instruction::Shell(strings(&["/bin/bash", "-c"]))
    );
    wrong("SHELL /bin/bash", 2, 1, "JSON array");
    wrong("RUN []", 2, 1, "empty");
}

#[test]
fn run_takes_options_and_here_documents() {
    let Instruction::Run(run) =
        one("RUN --mount=type=cache,target=/c --network=none \\\n  apt-get -y install")
    else {
        panic!()
    };
    assert_eq!(run.mounts, ["type=cache,target=/c"]);
    assert_eq!(run.network.as_deref(), Some("none"));
    let shell = |text: &str| Command::Shell(text.to_owned());
    assert_eq!(
        run.command,
        Script::Command(shell("apt-get -y install"), Vec::new())
    );
    let heredoc = Heredoc {
        name: "E".to_owned(),
        expand: true,
        content: "a\nb\n".to_owned(),
    };
    let run = |text| match one(text) {
        Instruction::Run(run) => run.command,
        other => panic!("{other:?}"),
    };
    assert_eq!(run("RUN <<E\na\nb\nE"), Script::Heredoc(heredoc.clone()));
    assert_eq!(
        run("RUN cat <<E > /x\na\nb\nE"),
        Script::Command(shell("cat <<E > /x"), vec![heredoc])
    );
    wrong("RUN --mont=x y", 2, 5, "did you mean --mount?");
    wrong("RUN --network y", 2, 5, "needs a value");
}

#[test]
fn copies() {
    let Instruction::Copy(copy) =
        one("COPY --from=b --chown=1:2 --chmod=755 --link --exclude=*.o --exclude=x a \"b c\" /d/")
    else {
        panic!()
    };
    let want = Copy {
        sources: ["a", "\"b c\""]
            .map(|s| Source::Path(s.to_owned()))
            .to_vec(),
        destination: "/d/".to_owned(),
        from: Some("b".to_owned()),
        chown: Some("1:2".to_owned()),
        chmod: Some("755".to_owned()),
        link: true,
        exclude: strings(&["*.o", "x"]),
        ..Copy::default()
    };
    assert_eq!(copy, want);
    let Instruction::Copy(copy) = one("ADD [\"a b\", \"/d\"]") else {
        panic!()
    };
    assert!(copy.add && copy.sources == [Source::Path("a b".to_owned())]);
    let Instruction::Copy(copy) = one("COPY <<f x /d/\nhi\nf") else {
        panic!()
    };
    assert!(matches!(&copy.sources[0], Source::Inline(h) if h.content == "hi\n"));
    assert_eq!(copy.sources[1], Source::Path("x".to_owned()));
    wrong("COPY a", 2, 1, "at least one source and a destination");
    wrong("ADD --from=x a b", 2, 5, "ADD has no option --from");
    wrong("COPY --link=no a b", 2, 6, "true or false");
}

#[test]
fn names_and_values() {
    let pairs = |list: &[(&str, &str)]| {
        list.iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        one("ENV a=1 b=\"x y\" c="),
        Instruction::Env(pairs(&[("a", "1"), ("b", "\"x y\""), ("c", "")]))
    );
    assert_eq!(
        one("ENV a the rest = all"),
        Instruction::Env(pairs(&[("a", "the rest = all")]))
    );
    assert_eq!(
        one("LABEL com.example/x=1"),
        Instruction::Label(pairs(&[("com.example/x", "1")]))
    );
    assert_eq!(
        one("ARG a b=1 c="),
        Instruction::Arg(vec![
            ("a".to_owned(), None),
            ("b".to_owned(), Some("1".to_owned())),
            ("c".to_owned(), Some(String::new())),
        ])
    );
    wrong("ENV a=1 b", 2, 9, "expected name=value");
    wrong("ENV a", 2, 5, "a value is missing");
    wrong("ENV =1", 2, 5, "name is missing");
}

#[test]
fn the_rest() {
    assert_eq!(one("WORKDIR /a b"), Instruction::Workdir("/a b".to_owned()));
    assert_eq!(
        one("expose 80 443/udp"),
        Instruction::Expose(strings(&["80", "443/udp"]))
    );
    assert_eq!(
        one("VOLUME [\"/a\", \"/b\"]"),
        Instruction::Volume(strings(&["/a", "/b"]))
    );
    assert_eq!(
        one("VOLUME /a /b"),
        Instruction::Volume(strings(&["/a", "/b"]))
    );
    assert_eq!(one("USER 1:2"), Instruction::User("1:2".to_owned()));
    assert_eq!(
        one("STOPSIGNAL SIGINT"),
        Instruction::StopSignal("SIGINT".to_owned())
    );
    assert_eq!(
        one("MAINTAINER me <x>"),
        Instruction::Maintainer("me <x>".to_owned())
    );
    wrong("USER a b", 2, 8, "exactly one");
    wrong("WORKDIR", 2, 1, "argument is missing");
    wrong("RUNN x", 2, 1, "did you mean RUN?");
    wrong("XXXXXXXX x", 2, 1, "expected one of ADD");
}

#[test]
fn health_checks() {
    let check = |text| match one(text) {
        Instruction::Healthcheck(check) => check,
        other => panic!("{other:?}"),
    };
    let full = check("HEALTHCHECK --interval=1m30s --timeout=250ms --retries=2 CMD [\"a\", \"b\"]");
    assert_eq!(full.test, ["CMD", "a", "b"]);
    assert_eq!(
        (full.interval_ns, full.timeout_ns, full.retries),
        (90_000_000_000, 250_000_000, 2)
    );
    assert_eq!(check("HEALTHCHECK none").test, ["NONE"]);
    assert_eq!(
        check("HEALTHCHECK CMD curl -f x").test,
        ["CMD-SHELL", "curl -f x"]
    );
    wrong(
        "HEALTHCHECK --interval=5 CMD x",
        2,
        1,
        "expected a duration",
    );
    wrong("HEALTHCHECK curl", 2, 13, "expected CMD or NONE");
}

#[test]
fn triggers() {
    assert_eq!(
        one("ONBUILD copy . /x"),
        Instruction::Onbuild("copy . /x".to_owned())
    );
    assert_eq!(
        one("ONBUILD RUN <<E\nx\nE"),
        Instruction::Onbuild("RUN <<E\nx\nE".to_owned())
    );
    assert!(matches!(
        trigger("RUN <<E\nx\nE").unwrap().value,
        Instruction::Run(_)
    ));
    wrong("ONBUILD ONBUILD RUN x", 2, 9, "cannot be a trigger");
    wrong("ONBUILD FROM x", 2, 9, "cannot be a trigger");
    assert!(trigger("FROM x").is_err());
    assert!(trigger("RUN a\nRUN b").is_err());
}

#[test]
fn durations() {
    for (text, want) in [
        ("0", Some(0)),
        ("1.5s", Some(1_500_000_000)),
        ("1h2m", Some(3_720_000_000_000)),
        ("", None),
        ("5", None),
        ("s", None),
        ("1x", None),
        ("999999999h", None),
    ] {
        assert_eq!(duration_ns(text), want, "{text:?}");
    }
}
