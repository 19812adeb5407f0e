//! Nothing may grow with use: not memory, not descriptors, not threads.
//!
//! A run of the tests does this for some seconds; by hand, with
//! `SHIM_SOAK_EXECS=100000 SHIM_SOAK_CONTAINERS=10000`, for hours.

use std::fs;
use std::time::Duration;

use crate::lab::{Lab, in_lab_for};

/// What a shim holds.
#[derive(Debug, Clone, Copy)]
struct Holds {
    anonymous_kib: u64,
    descriptors: usize,
    threads: usize,
    children: usize,
}

/// What the shim of `id` holds once it rests.
async fn holds(lab: &Lab, id: &str) -> Holds {
    let pid = lab.shim_pid(id);
    let proc = |name: &str| format!("/proc/{pid}/{name}");
    let anonymous = || -> u64 {
        let rollup = fs::read_to_string(proc("smaps_rollup")).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Pss_Anon:"));
        line.unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap()
    };
    // It gives memory back when nothing has happened for a while.
    let (mut least, mut still) = (anonymous(), 0);
    while still < 40 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = anonymous();
        still = if now < least { 0 } else { still + 1 };
        least = least.min(now);
    }
    Holds {
        anonymous_kib: least,
        descriptors: fs::read_dir(proc("fd")).unwrap().count(),
        threads: fs::read_dir(proc("task")).unwrap().count(),
        children: fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .unwrap()
            .split_whitespace()
            .count(),
    }
}

/// What malloc may hold on to besides what is in use.
const SLACK_KIB: u64 = 192;

fn same(before: Holds, after: Holds) {
    println!("before {before:?}\nafter  {after:?}");
    assert_eq!(
        (before.descriptors, before.threads, before.children),
        (after.descriptors, after.threads, after.children)
    );
    assert!(
        after.anonymous_kib <= before.anonymous_kib + SLACK_KIB,
        "memory grew"
    );
}

fn count(name: &str, usual: u32) -> u32 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// Long enough for the numbers that are asked for by hand.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// `count` execs, four at a time; each is over in an instant, and each has an
/// exit code of its own.
async fn execs(lab: &Lab, count: u32) {
    let lane = async |lane: u32| {
        for n in (lane..count).step_by(4) {
            let (exec, code) = (format!("e{n}"), n % 256);
            lab.exec("c", &exec, &["sh", "-c", &format!("exit {code}")], |_| ())
                .await
                .unwrap();
            lab.start("c", &exec).await.unwrap();
            assert_eq!(lab.wait("c", &exec).await, code);
            lab.delete("c", &exec).await.unwrap();
            if n % 512 == 0 {
                lab.events.lock().unwrap().clear();
            }
        }
    };
    tokio::join!(lane(0), lane(1), lane(2), lane(3));
}

#[test]
fn execs_leave_the_shim_as_it_was_and_lose_no_exit() {
    in_lab_for(PATIENCE, async |lab| {
        lab.run("c", &["sleep", "1000000"]).await;
        execs(lab, 40).await;
        let before = holds(lab, "c").await;
        execs(lab, count("SHIM_SOAK_EXECS", 200)).await;
        same(before, holds(lab, "c").await);
    });
}

#[test]
fn containers_leave_the_shim_as_it_was() {
    in_lab_for(PATIENCE, async |lab| {
        let in_pod = |spec: &mut serde_json::Value| {
            spec["annotations"] = serde_json::json!({"io.kubernetes.cri.sandbox-id": "c"});
        };
        lab.make_bundle("c", &["sleep", "1000000"], in_pod);
        lab.make_bundle("d", &["true"], in_pod);
        for id in ["c", "d"] {
            lab.start_shim(id).await;
        }
        lab.create(lab.request("c")).await.unwrap();
        lab.start("c", "").await.unwrap();
        let containers = async |count: u32| {
            for _ in 0..count {
                let mut request = lab.request("d");
                request.stdout = lab
                    .path("d.log")
                    .to_str()
                    .map(|p| format!("file://{p}"))
                    .unwrap();
                lab.create(request).await.unwrap();
                lab.start("d", "").await.unwrap();
                assert_eq!(lab.wait("d", "").await, 0);
                lab.delete("d", "").await.unwrap();
                lab.events.lock().unwrap().clear();
            }
        };
        containers(5).await;
        let before = holds(lab, "c").await;
        containers(count("SHIM_SOAK_CONTAINERS", 20)).await;
        same(before, holds(lab, "c").await);
    });
}
