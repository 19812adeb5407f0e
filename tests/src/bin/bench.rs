//! The benchmark: our programs against their peers, in one table of ratios.
//!
//! `bench RESULTS_DIR [runtimes|shims|clients|pulls]`; see `tests/bench/run.sh`.
//!
//! 1. [`runtimes`] holds the contests between OCI runtimes, [`shims`] those
//!    between shims under containerd, [`clients`] that between clients with
//!    their daemons, [`pulls`] those around images and full stores.
//! 2. [`report::table`] gives medians and ratios, and [`report::machine`]
//!    says where it was; both are printed and kept beside the raw values.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use nix::sys::prctl::set_child_subreaper;
use serde_json::{Value, json};
use tests::bench::contest::{Contest, Result};
use tests::bench::{clients, pulls, report, runtimes, shims};
use tests::containerd::Containerd;
use tests::dockerd::Dockerd;
use tests::image::Image;
use tests::scratch::Scratch;
use tests::stack::{BUSYBOX, Stack};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some((results, rest)) = args.split_first() else {
        eprintln!("usage: bench RESULTS_DIR [runtimes|shims|clients|pulls]");
        return ExitCode::from(2);
    };
    if results == runtimes::PEAK_RSS {
        runtimes::print_peak_memory(rest);
        return ExitCode::SUCCESS;
    }
    let wanted = |part: &str| rest.first().is_none_or(|only| only == part);

    let mut report = report::machine();
    println!("{report}");
    let mut raw: Vec<Value> = Vec::new();
    let mut hold = |contest: Contest<'_>| {
        let result: Result = contest.hold();
        let table = report::table(&result);
        println!("{table}");
        report.push_str(&table);
        raw.push(report::raw(&result));
    };
    if wanted("runtimes") {
        hold_runtimes(&mut hold);
    }
    if wanted("shims") {
        hold_shims(&mut hold);
    }
    if wanted("clients") {
        hold_clients(&mut hold);
    }
    if wanted("pulls") {
        hold_pulls(&mut hold);
    }
    match report::keep(Path::new(results), &report, &json!(raw)) {
        Ok(path) => println!("kept as {path}.txt, raw values in {path}.json"),
        Err(err) => {
            eprintln!("bench: write results: {err}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn hold_runtimes(hold: &mut dyn FnMut(Contest<'_>)) {
    let scratch = Scratch::new();
    let bundles = runtimes::Bundles::new(&scratch);
    // What `create` leaves waiting is ours to wait for.
    set_child_subreaper(true).expect("this kernel has subreapers");
    hold(runtimes::run(&bundles));
    hold(runtimes::create_start_delete(&bundles));
    let running = runtimes::Running::start(&bundles);
    hold(runtimes::exec(&bundles, &running));
    drop(running);
    hold(runtimes::many_at_once(&bundles));
    hold(runtimes::peak_memory(&bundles));
    hold(runtimes::waiting_memory(&bundles));
    set_child_subreaper(false).expect("this kernel has subreapers");
}

fn hold_shims(hold: &mut dyn FnMut(Contest<'_>)) {
    let scratch = Scratch::new();
    let containerd = with_busybox(&scratch);
    hold(shims::run_true(&containerd));
    hold(shims::exec_true(&containerd));
    hold(shims::check_cost(&containerd));
    hold(shims::output(&containerd));
    hold(shims::memory_of_one(&containerd));
    hold(shims::memory_of_many(&containerd));
}

/// containerd with the image that all contests under it use.
fn with_busybox(scratch: &Scratch) -> Containerd {
    let containerd = Containerd::start(scratch);
    let archive = scratch.text("image.tar");
    fs::write(&archive, Image::busybox().docker_archive(&[BUSYBOX]))
        .expect("an archive can be written");
    containerd.ctr(&["images", "import", &archive]).ok();
    containerd
}

fn hold_clients(hold: &mut dyn FnMut(Contest<'_>)) {
    let scratch = Scratch::new();
    let stack = Stack::with_busybox();
    let containerd = with_busybox(&scratch);
    hold(clients::run(&stack, &containerd));
    drop((stack, containerd));
    let dockerd = Dockerd::with_runtime(&scratch, "runc");
    let stack = Stack::with_busybox();
    for contest in clients::daily(&stack, &dockerd) {
        hold(contest);
    }
    hold(clients::listing(&stack, &dockerd));
}

fn hold_pulls(hold: &mut dyn FnMut(Contest<'_>)) {
    let pulls = pulls::Pulls::prepare();
    println!("{}", pulls.described());
    hold(pulls.idle_memory());
    hold(pulls.whole());
    hold(pulls.peak_memory());
    hold(pulls.nothing_to_do());
    drop(pulls);
    let full = pulls::Full::prepare();
    hold(full.start());
    hold(full.list());
    hold(full.floor());
    hold(full.collection());
}
