//! `make install`: what lands where.

use std::path::Path;
use std::process::Command;

use tests::command;
use tests::repository;
use tests::scratch::Scratch;

fn make(scratch: &Scratch, target: &str) {
    let mut make = Command::new("make");
    make.current_dir(repository::root())
        .args(["--no-print-directory", target, "PREFIX=/opt/lite"])
        .arg(format!("DESTDIR={}", scratch.path("image").display()))
        .arg(format!("BIN_DIR={}", repository::bin_dir().display()));
    command::run(&mut make).ok();
}

fn files_below(dir: &Path) -> Vec<String> {
    let found = command::run(
        Command::new("find")
            .arg(dir)
            .args(["-type", "f", "-printf", "%m %P\\n"]),
    )
    .ok();
    let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
    found.sort();
    found
}

#[test]
fn install_puts_each_file_in_its_place_and_uninstall_takes_it_away() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    make(&scratch, "install");
    let expected = [
        "644 opt/lite/lib/systemd/system/containerd-lite.service",
        "644 opt/lite/share/bash-completion/completions/ctl",
        "644 opt/lite/share/fish/vendor_completions.d/ctl.fish",
        "644 opt/lite/share/zsh/site-functions/_ctl",
        "755 opt/lite/bin/containerd-lite",
        "755 opt/lite/bin/containerd-shim-runc-rs-v2",
        "755 opt/lite/bin/ctl",
        "755 opt/lite/bin/runc-rs",
    ];
    assert_eq!(files_below(&image), expected);
    let unit = image.join("opt/lite/lib/systemd/system/containerd-lite.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    assert!(
        unit.contains("\nExecStart=/opt/lite/bin/containerd-lite\n"),
        "{unit}"
    );
    for program in ["containerd-lite", "ctl", "runc-rs"] {
        let path = image.join("opt/lite/bin").join(program);
        let said = command::run(Command::new(path).arg("--version")).ok();
        assert!(said.contains(program), "{said}");
    }
    make(&scratch, "uninstall");
    assert_eq!(files_below(&image), Vec::<String>::new());
}

#[test]
fn the_bash_completion_is_one() {
    let scratch = Scratch::new();
    let script = scratch.path("ctl.bash");
    let text =
        command::run(Command::new(repository::program("ctl")).args(["completion", "bash"])).ok();
    std::fs::write(&script, text).unwrap();
    let check = format!("source {} && complete -p ctl", script.display());
    command::run(Command::new("bash").args(["-c", &check])).ok();
}
