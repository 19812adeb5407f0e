//! The documents of the OCI runtime specification: what runc-rs prints obeys
//! their schemas, and it tells their good examples from the bad ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::{Value, json};
use tests::bundle::Bundle;
use tests::command::{self, Said, eventually};
use tests::need::{self, Need};
use tests::repository;
use tests::scratch::Scratch;

fn fixtures() -> PathBuf {
    repository::root().join("tests/fixtures/oci-runtime-spec-1.3")
}

/// One of the specification's schemas.
struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn of(document: &str) -> Self {
        let file = fixtures().join(format!("schema/{document}-schema.json"));
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V4);
        // Schemas of other platforms' parts are not among the fixtures.
        for absent in ["freebsd", "solaris", "vm", "windows", "zos"] {
            let file = fixtures().join(format!("schema/config-{absent}.json"));
            compiler
                .add_resource(
                    &file.display().to_string(),
                    json!({ absent: {"type": "object"} }),
                )
                .expect("a schema can be stood in for");
        }
        let index = compiler
            .compile(&file.display().to_string(), &mut schemas)
            .expect("the specification's schemas are schemas");
        Self { schemas, index }
    }

    /// What is wrong with `document`.
    fn complaint(&self, document: &Value) -> Option<String> {
        let result = self.schemas.validate(document, self.index);
        result.err().map(|error| format!("{error:#}\n{document:#}"))
    }
}

/// The specification's examples of a document: name, text.
fn examples(document: &str, kind: &str) -> Vec<(String, Vec<u8>)> {
    let dir = fixtures().join(format!("examples/{document}/{kind}"));
    let files = fs::read_dir(&dir).unwrap_or_else(|err| panic!("read {}: {err}", dir.display()));
    files
        .map(|file| {
            let path = file.expect("a directory can be read").path();
            let text = fs::read(&path).expect("an example can be read");
            (path.display().to_string(), text)
        })
        .collect()
}

fn runc_rs(args: &[&str]) -> Said {
    command::run(Command::new(repository::program("runc-rs")).args(args))
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|err| panic!("{err}: {text}"))
}

#[test]
fn the_examples_are_told_apart_by_the_schemas() {
    for document in ["config", "features", "state"] {
        let schema = Schema::of(document);
        for (name, text) in examples(document, "good") {
            let value = serde_json::from_slice(&text).expect("a good example is JSON");
            assert_eq!(schema.complaint(&value), None, "{name}");
        }
        for (name, text) in examples(document, "bad") {
            let refused = serde_json::from_slice(&text)
                .map_or(true, |value| schema.complaint(&value).is_some());
            assert!(refused, "{name}");
        }
    }
}

#[test]
fn features_obeys_its_schema() {
    let features = parsed(&runc_rs(&["features"]).ok());
    assert_eq!(Schema::of("features").complaint(&features), None);
}

#[test]
fn the_default_configs_obey_their_schema() {
    let scratch = Scratch::new();
    for (name, rootless) in [("root", None), ("rootless", Some("--rootless"))] {
        let dir = scratch.path(name);
        fs::create_dir(&dir).expect("a bundle can be made");
        let text = dir.display().to_string();
        let args: Vec<&str> = ["spec", "--bundle", &text]
            .into_iter()
            .chain(rootless)
            .collect();
        runc_rs(&args).ok();
        let config = fs::read_to_string(dir.join("config.json")).expect("spec writes it");
        assert_eq!(Schema::of("config").complaint(&parsed(&config)), None);
    }
}

#[test]
fn the_state_obeys_its_schema_all_life_long() {
    if need::skip(&[Need::Runc]) {
        return;
    }
    let scratch = Scratch::new();
    let bundle = Bundle::new(&scratch, "b").running(&["sleep", "1000"]);
    bundle.edit(|config| config["annotations"] = json!({"org.example.key": "value"}));
    let root = scratch.text("state");
    let command = |args: &[&str]| {
        let mut command = Command::new(repository::program("runc-rs"));
        command.args(["--root", &root]).args(args);
        command
    };
    let schema = Schema::of("state");
    let state = |status: &str| {
        let state = parsed(&command::run(&mut command(&["state", "c1"])).ok());
        assert_eq!(schema.complaint(&state), None);
        (state["status"] == status).then_some(())
    };
    let created = command(&["create", "--bundle", &bundle.text(), "c1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(created.expect("runc-rs can be run").success());
    state("created").expect("it is created");
    command::run(&mut command(&["start", "c1"])).ok();
    state("running").expect("it runs");
    command::run(&mut command(&["kill", "c1", "KILL"])).ok();
    eventually("the end", || state("stopped"));
    command::run(&mut command(&["delete", "c1"])).ok();
}

/// `plan` reads a bundle as `create` does, and changes nothing.
fn plan(dir: &Path, config: &[u8]) -> Said {
    fs::create_dir_all(dir).expect("a bundle can be made");
    fs::write(dir.join("config.json"), config).expect("a config can be written");
    runc_rs(&["plan", &dir.display().to_string()])
}

#[test]
fn good_configs_are_planned() {
    let scratch = Scratch::new();
    for (name, text) in examples("config", "good") {
        let mut config: Value = serde_json::from_slice(&text).expect("a good example is JSON");
        complete(&mut config);
        fit(&mut config);
        let said = plan(&scratch.path("b"), config.to_string().as_bytes());
        let planned = said.ok();
        assert!(planned.ends_with("exec\n"), "{name}: {planned}");
    }
}

#[test]
fn bad_configs_are_refused_by_their_place() {
    let scratch = Scratch::new();
    for (name, text) in examples("config", "bad") {
        let config = serde_json::from_slice(&text).map_or(text, |mut config: Value| {
            complete(&mut config);
            config.to_string().into_bytes()
        });
        let said = plan(&scratch.path("b"), &config);
        eprintln!("{name}");
        said.fails_naming(&["config.json"]);
    }
}

/// Gives an example what a container cannot do without and the
/// specification lets a document leave out.
fn complete(config: &mut Value) {
    if config.get("process").is_none() {
        config["process"] = json!({"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}});
    }
    // The specification's own example is older than its version 1.
    if config["ociVersion"] == "0.5.0-dev" {
        config["ociVersion"] = json!("1.0.0");
    }
}

/// Takes out what is refused where the machine has no such thing, and gives
/// network devices the namespace to move into, which their example leaves out.
fn fit(config: &mut Value) {
    if config.pointer("/linux/netDevices").is_some() {
        config["linux"]["namespaces"] = json!([{"type": "network"}]);
    }
    let mut remove = |part: &str, keys: &[&str]| {
        if let Some(part) = config.get_mut(part).and_then(Value::as_object_mut) {
            part.retain(|key, _| !keys.contains(&key.as_str()));
        }
    };
    remove("process", &["apparmorProfile", "selinuxLabel"]);
    remove("linux", &["mountLabel", "intelRdt"]);
}
