//! Rules of the house that a machine can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tests::repository;

/// What may stand at the top of the repository.
const TOP: &[&str] = &[
    // the folders of the design
    "proto",
    "runc-rs",
    "shim",
    "containerd-lite",
    "ctl",
    "tests",
    // documents
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    // configuration of tools
    "Cargo.toml",
    "Cargo.lock",
    "Makefile",
    "clippy.toml",
    "rustfmt.toml",
    "deny.toml",
    ".cargo",
    ".ci",
    ".git",
    ".gitignore",
    // what a build leaves
    "target",
];

/// The one package with `unsafe` code.
const UNSAFE_LIVES_IN: &str = "runc-rs/kernel";

#[test]
fn nothing_new_stands_at_the_top() {
    let entries = fs::read_dir(repository::root()).expect("the root can be read");
    let strangers: BTreeSet<String> = entries
        .map(|entry| {
            entry
                .expect("the root can be read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| !TOP.contains(&name.as_str()))
        .collect();
    assert_eq!(strangers, BTreeSet::new());
}

/// Unit tests in a file of their own belong to their module's story.
#[test]
fn every_source_file_opens_with_its_story() {
    assert_none(|path, text| {
        let tests = path
            .file_stem()
            .is_some_and(|stem| stem.to_string_lossy().ends_with("tests"));
        !tests && (!text.starts_with("//!") || text.starts_with("//!\n"))
    });
}

#[test]
fn unsafe_code_is_in_one_package() {
    let words = ["unsafe {", "unsafe fn ", "unsafe impl ", "unsafe extern "];
    assert_none(|path, text| {
        !path.starts_with(UNSAFE_LIVES_IN)
            && code_lines(text).any(|line| {
                words
                    .iter()
                    .any(|word| line.contains(word) && !line.contains('"'))
            })
    });
}

#[test]
fn only_the_kernel_package_opts_out_of_the_workspace_lints() {
    for package in repository::rust_sources()
        .iter()
        .filter_map(|path| path.parent()?.parent())
    {
        if package == repository::root() {
            continue; // the parent of a build script's directory
        }
        let manifest = package.join("Cargo.toml");
        let Ok(text) = fs::read_to_string(&manifest) else {
            continue;
        };
        if !package.ends_with(UNSAFE_LIVES_IN) {
            assert!(
                text.contains("[lints]\nworkspace = true\n"),
                "{}: lints are not the workspace's",
                manifest.display()
            );
        }
    }
}

#[test]
fn no_source_promises_work_not_done() {
    // Put together here, so that this file does not name what it looks for.
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
    ];
    assert_none(|_, text| {
        text.lines()
            .any(|line| words.iter().any(|word| line.contains(word.as_str())))
    });
}

#[test]
fn exceptions_expire() {
    let allow = ["[", "allow("].concat();
    // Generated code comes with warnings of its generator's making.
    assert_none(|path, text| {
        !path.starts_with("proto/src")
            && code_lines(text).any(|line| {
                line.contains(&format!("#{allow}")) || line.contains(&format!("#!{allow}"))
            })
    });
}

/// A test that is never run must be on the list of known gaps by its name.
#[test]
fn ignored_tests_are_known_gaps() {
    let gaps = fs::read_to_string(repository::root().join("tests/known-gaps.txt"))
        .expect("known-gaps.txt is there");
    let attribute = ["#[", "ignore"].concat();
    assert_none(|_, text| {
        let lines: Vec<&str> = text.lines().collect();
        lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.trim_start().starts_with(&attribute))
            .any(|(at, _)| {
                let name = lines[at..]
                    .iter()
                    .find_map(|line| line.trim_start().strip_prefix("fn ")?.split('(').next());
                !name.is_some_and(|name| {
                    gaps.lines()
                        .any(|gap| gap.split_whitespace().next() == Some(name))
                })
            })
    });
}

/// Lines that are not comments.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// Fails with the list of the source files for which `wrong` holds.
#[track_caller]
fn assert_none(wrong: impl Fn(&Path, &str) -> bool) {
    let found: Vec<String> = repository::rust_sources()
        .iter()
        .filter_map(|path| {
            let text = fs::read_to_string(path).expect("a source file can be read");
            let short = path
                .strip_prefix(repository::root())
                .expect("sources are in the repository");
            wrong(short, &text).then(|| short.display().to_string())
        })
        .collect();
    assert_eq!(found, Vec::<String>::new());
}
