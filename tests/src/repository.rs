//! Where things are: the repository's root, its files, the built programs.

use std::path::{Path, PathBuf};

/// The repository's root directory.
///
/// # Panics
/// When this package is not inside the workspace it was built from.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests package has a parent directory")
}

/// The path of one of the built programs: beside the test program, that is
/// of the same build profile, unless `TESTS_BIN_DIR` names another directory.
///
/// # Panics
/// When the program was not built; says how to build it.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = bin_dir().join(name);
    assert!(
        path.exists(),
        "{} is not there: build it first (cargo build --workspace --bins)",
        path.display()
    );
    path
}

/// The directory that [`program`] looks in.
///
/// # Panics
/// When the running test program cannot be found.
#[must_use]
pub fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("TESTS_BIN_DIR") {
        return PathBuf::from(dir);
    }
    let own = std::env::current_exe().expect("the running program has a path");
    // Test programs are in <profile>/deps, binaries in <profile>.
    let dir = own.parent().expect("a program is in a directory");
    if dir.ends_with("deps") {
        dir.parent().expect("deps has a parent").to_owned()
    } else {
        dir.to_owned()
    }
}

/// Every Rust source file of the workspace, build output left out.
///
/// # Panics
/// When a source directory cannot be read.
#[must_use]
pub fn rust_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in [
        "proto",
        "runc-rs",
        "shim",
        "containerd-lite",
        "ctl",
        "tests",
    ] {
        collect(&root().join(top), &mut found);
    }
    found.sort();
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries =
        std::fs::read_dir(dir).unwrap_or_else(|err| panic!("read {}: {err}", dir.display()));
    for entry in entries {
        let path = entry
            .unwrap_or_else(|err| panic!("read {}: {err}", dir.display()))
            .path();
        if path.is_dir() && !path.is_symlink() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}
