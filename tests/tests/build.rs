//! `ctl build` through the daemon: what a Dockerfile says is what the image holds.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};
use tests::command::{self, Said, eventually};
use tests::stack::{BUSYBOX, Stack};

/// A stack with busybox, and a context directory.
struct Lab {
    context: PathBuf,
    stack: Stack,
}

impl Lab {
    fn new() -> Self {
        let stack = Stack::with_busybox();
        let context = stack.scratch().path("context");
        fs::create_dir(&context).expect("a directory can be made");
        Self { context, stack }
    }

    /// Writes a file of the context.
    fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.context.join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("it can be made");
        fs::write(&path, text).expect("a file can be written");
        path
    }

    /// `ctl build -t app` of the context with this Dockerfile.
    #[track_caller]
    fn build(&self, dockerfile: &str, args: &[&str]) -> Said {
        self.file("Dockerfile", dockerfile);
        let context = self.context.display().to_string();
        self.stack
            .ctl(&[&["build", "-t", "app"], args, &[context.as_str()]].concat())
    }

    /// The same, which must succeed; returns what was told.
    #[track_caller]
    fn built(&self, dockerfile: &str, args: &[&str]) -> String {
        let said = self.build(dockerfile, args);
        assert_eq!(said.code, 0, "{said}");
        said.err
    }

    /// What `script` prints in a container of the image.
    #[track_caller]
    fn sh(&self, script: &str) -> String {
        self.stack
            .ctl(&[
                "run",
                "--rm",
                "--entrypoint",
                "/bin/sh",
                "app",
                "-c",
                script,
            ])
            .ok()
    }

    /// The image's configuration as `inspect` prints it.
    #[track_caller]
    fn config(&self, pointer: &str) -> Value {
        self.stack.inspect("app", &format!("/Config{pointer}"))
    }

    #[track_caller]
    fn id(&self) -> String {
        self.stack
            .inspect("app", "/Id")
            .as_str()
            .expect("an id")
            .to_owned()
    }
}

fn from(rest: &str) -> String {
    format!("FROM {BUSYBOX}\n{rest}")
}

#[test]
fn an_image_holds_what_its_dockerfile_says() {
    let lab = Lab::new();
    lab.file("src/hello.txt", "hello\n");
    let dockerfile = from(
        "ARG WHO=nobody\nENV GREETING=\"good day\" WHO=$WHO\nWORKDIR /srv\nCOPY src/ data/\nRUN echo \"$GREETING $WHO\" > made && echo told\nEXPOSE 80 53/udp\nVOLUME /var/lib/app\nLABEL a=b\nUSER 7:8\nSTOPSIGNAL SIGINT\nENTRYPOINT [\"cat\"]\nCMD [\"made\"]\n",
    );
    let told = lab.built(&dockerfile, &["--build-arg", "WHO=you"]);
    assert!(told.contains("told") && told.contains("RUN echo"), "{told}");
    let ran = lab.stack.ctl(&["run", "--rm", "app"]).ok();
    assert_eq!(ran, "good day you\n");
    assert_eq!(lab.sh("id -u; pwd; cat data/hello.txt"), "7\n/srv\nhello\n");
    assert_eq!(
        lab.config("/ExposedPorts"),
        json!({"53/udp": {}, "80/tcp": {}})
    );
    assert_eq!(lab.config("/Volumes"), json!({"/var/lib/app": {}}));
    assert_eq!(lab.config("/Labels"), json!({"a": "b"}));
    assert_eq!(lab.config("/WorkingDir"), json!("/srv"));
    assert_eq!(lab.config("/StopSignal"), json!("SIGINT"));
}

#[test]
fn a_second_build_runs_nothing_also_after_a_restart() {
    let mut lab = Lab::new();
    lab.file("f", "1");
    let dockerfile =
        from("RUN cat /proc/sys/kernel/random/uuid > /unique\nCOPY f /\nRUN wc -c < /f > /size\n");
    lab.built(&dockerfile, &[]);
    let (first, unique) = (lab.id(), lab.sh("cat /unique"));
    lab.stack.stop_daemon();
    lab.stack.start_daemon();
    let told = lab.built(&dockerfile, &[]);
    assert_eq!(told.matches("CACHED").count(), 3, "{told}");
    assert_eq!(lab.id(), first);
    // A changed file runs what depends on it, and nothing before.
    lab.file("f", "changed");
    let told = lab.built(&dockerfile, &[]);
    assert_eq!(told.matches("CACHED").count(), 1, "{told}");
    assert_eq!(lab.sh("cat /unique"), unique);
    assert_eq!(lab.sh("cat /f /size"), "changed7\n");
    let told = lab.built(&dockerfile, &["--no-cache"]);
    assert_eq!(told.matches("CACHED").count(), 0, "{told}");
    assert_ne!(lab.sh("cat /unique"), unique);
}

#[test]
fn the_same_inputs_make_the_same_image_on_another_machine() {
    let dockerfile =
        from("RUN mkdir -p /a/b && date +%N > /dev/null && touch /a/b/c\nCOPY f /f\nWORKDIR /w\n");
    let ids: Vec<String> = (0..2)
        .map(|_| {
            let lab = Lab::new();
            lab.file("f", "text");
            lab.built(&dockerfile, &[]);
            lab.id()
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn stages_that_nobody_needs_are_not_built() {
    let lab = Lab::new();
    let dockerfile = format!(
        "FROM {BUSYBOX} AS tools\nRUN echo tool > /tool && chown 5:6 /tool\nFROM {BUSYBOX} AS unused\nRUN exit 9\nFROM tools AS more\nRUN echo more >> /tool\nFROM {BUSYBOX}\nCOPY --from=more /tool /copied\nCOPY --from=0 /tool /first\n"
    );
    let told = lab.built(&dockerfile, &[]);
    assert!(!told.contains("exit 9"), "{told}");
    assert_eq!(
        lab.sh("cat /copied /first; stat -c %u:%g /copied"),
        "tool\nmore\ntool\n5:6\n"
    );
    let target = lab.build(&dockerfile, &["--target", "unused"]);
    assert_ne!(target.code, 0);
    lab.built(&dockerfile, &["--target", "tools"]);
    assert_eq!(lab.sh("cat /tool"), "tool\n");
}

#[test]
fn a_step_that_fails_shows_its_line_and_leaves_nothing() {
    let lab = Lab::new();
    let said = lab.build(&from("ENV A=1\nRUN echo about to fail; exit 3\n"), &[]);
    assert_eq!(said.code, 1, "{said}");
    for words in [
        "about to fail",
        "Dockerfile:3:1",
        "exit code: 3",
        " 3 | RUN echo",
    ] {
        assert!(said.err.contains(words), "{words}: {said}");
    }
    assert!(!lab.stack.ctl(&["images"]).ok().contains("app"));
}

#[test]
fn a_mistake_is_shown_before_anything_runs() {
    let lab = Lab::new();
    let said = lab.build(&from("RUN echo ran\nCOYP a b\n"), &[]);
    assert_eq!(said.code, 1, "{said}");
    for words in ["Dockerfile:3:1", "COYP", "did you mean COPY?", "^^^^"] {
        assert!(said.err.contains(words), "{words}: {said}");
    }
    assert!(!said.err.contains("#1"), "{said}");
    let said = lab.build(&from("COPY none /\n"), &[]);
    assert!(said.code != 0 && said.err.contains("not found"), "{said}");
}

#[test]
fn ignored_files_do_not_exist() {
    let lab = Lab::new();
    for path in ["keep", "drop.o", "dir/a", "dir/b.o", "skip/x"] {
        lab.file(path, path);
    }
    lab.file(
        ".dockerignore",
        "**/*.o\nskip\n!drop.o\nDockerfile\n.dockerignore\n",
    );
    lab.built(&from("COPY . /c/\n"), &[]);
    assert_eq!(
        lab.sh("cd /c; find . -type f | sort"),
        "./dir/a\n./drop.o\n./keep\n"
    );
    let said = lab.build(&from("COPY skip/x /\n"), &[]);
    assert!(said.code != 0 && said.err.contains("not found"), "{said}");
}

#[test]
fn copies_have_the_owners_and_modes_that_were_asked_for() {
    let lab = Lab::new();
    let script = lab.file("run.sh", "#!/bin/sh\necho ran\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it can be changed");
    lab.file("d/x", "1");
    lab.built(
        &from("RUN echo 'app:x:70:71:::' >> /etc/passwd && echo 'grp:x:72:' >> /etc/group\nCOPY run.sh /bin/\nCOPY --chown=app d /a/\nCOPY --chown=9 --chmod=u=rw,go= d/x /b/c/\nCOPY --chown=app:grp <<EOF /note\nfrom ${HOME:-nowhere}\nEOF\nRUN run.sh > /out\n"),
        &[],
    );
    let stat = lab.sh("stat -c '%a %u:%g %n' /bin/run.sh /a/x /b/c /b/c/x /note; cat /note /out");
    assert_eq!(
        stat,
        "755 0:0 /bin/run.sh\n644 70:71 /a/x\n755 9:9 /b/c\n600 9:9 /b/c/x\n644 70:72 /note\nfrom nowhere\nran\n"
    );
}

#[test]
fn what_a_step_removes_is_gone() {
    let lab = Lab::new();
    lab.built(
        &from("RUN mkdir /d && echo 1 > /d/a && echo 2 > /d/b && ln /d/b /d/hard\nRUN rm /d/a && rm -r /etc/network; mkdir /etc/network && echo 3 > /etc/network/new\n"),
        &[],
    );
    assert_eq!(
        lab.sh("ls /d; ls /etc/network; stat -c %h /d/b"),
        "b\nhard\nnew\n2\n"
    );
}

#[test]
fn mounts_of_a_step_leave_nothing_in_the_image() {
    let lab = Lab::new();
    lab.file("input", "from the context\n");
    let secret = lab.stack.scratch().path("secret");
    fs::write(&secret, "hush").expect("a file can be written");
    let dockerfile = format!(
        "FROM {BUSYBOX} AS other\nRUN echo other > /other\nFROM {BUSYBOX}\nRUN --mount=type=cache,target=/cache echo x >> /cache/log && wc -l < /cache/log > /count\nRUN --mount=target=/ctx cat /ctx/input > /in\nRUN --mount=from=other,source=/other,target=/o cat /o > /from\nRUN --mount=type=secret,id=key --mount=type=secret,id=key,env=KEY cat /run/secrets/key > /len && printf %s $KEY | wc -c > /len\nRUN --mount=type=tmpfs,target=/t echo y > /t/y\n"
    );
    let source = format!("id=key,src={}", secret.display());
    lab.built(&dockerfile, &["--secret", &source]);
    assert_eq!(
        lab.sh("cat /count /in /from /len"),
        "1\nfrom the context\nother\n4\n"
    );
    assert_eq!(
        lab.sh("ls -d /cache /ctx /o /run/secrets /t 2>/dev/null || true"),
        ""
    );
    lab.built(&dockerfile, &["--secret", &source, "--no-cache"]);
    assert_eq!(lab.sh("cat /count"), "2\n");
}

#[test]
fn scripts_archives_and_triggers() {
    let lab = Lab::new();
    let archive = tests::tar::Tar::new().file("in/tar", 0o644, b"packed\n");
    fs::write(lab.context.join("a.tar"), archive.finish()).expect("a file can be written");
    lab.built(
        &from("ADD a.tar /unpacked/\nCOPY a.tar /copied/\nRUN <<EOF\nset -e\necho one > /one\ncat /one /one > /two\nEOF\nRUN <<SCRIPT\n#!/bin/sh\necho interpreted > /three\nSCRIPT\nRUN cat <<A > /four\nfour\nA\nONBUILD RUN echo triggered > /trigger\n"),
        &["-t", "base:1"],
    );
    assert_eq!(
        lab.sh(
            "cat /unpacked/in/tar /two /three /four; ls /copied; ls /trigger 2>/dev/null || true"
        ),
        "packed\none\none\ninterpreted\nfour\na.tar\n"
    );
    lab.built("FROM base:1\nCMD [\"cat\", \"/trigger\"]\n", &[]);
    assert_eq!(lab.stack.ctl(&["run", "--rm", "app"]).ok(), "triggered\n");
}

#[test]
fn a_dockerfile_comes_from_anywhere() {
    let lab = Lab::new();
    lab.file("f", "context\n");
    let elsewhere = lab.stack.scratch().path("Other");
    fs::write(&elsewhere, from("COPY f /f\n")).expect("a file can be written");
    let context = lab.context.display().to_string();
    let id_file = lab.stack.scratch().text("id");
    let said = lab.stack.ctl(&[
        "build",
        "-q",
        "-t",
        "app",
        "-f",
        &elsewhere.display().to_string(),
        "--iidfile",
        &id_file,
        &context,
    ]);
    let id = said.ok();
    assert_eq!(id.trim(), lab.id());
    assert_eq!(
        fs::read_to_string(&id_file).expect("it was written"),
        id.trim()
    );
    assert_eq!(lab.sh("cat /f"), "context\n");
    let piped = from("RUN echo piped > /p\n");
    let said = lab
        .stack
        .ctl_with_input(&["build", "-t", "app", "-"], piped.as_bytes());
    assert_eq!(said.code, 0, "{said}");
    assert_eq!(lab.sh("cat /p"), "piped\n");
}

#[test]
fn an_image_from_scratch_has_only_what_was_put_there() {
    let lab = Lab::new();
    let dockerfile = format!(
        "FROM {BUSYBOX} AS b\nFROM scratch\nCOPY --from=b /bin/busybox /bin/sh\nRUN [\"/bin/sh\", \"-c\", \"echo hi > /hi\"]\n"
    );
    lab.built(&dockerfile, &[]);
    let script = "for f in /* /etc/*; do [ -e $f ] && echo $f; done; read x < /hi; echo $x";
    let found = lab.sh(script);
    assert!(
        found.contains("/hi\n") && found.ends_with("hi\n"),
        "{found}"
    );
    let layers = lab.stack.inspect("app", "/RootFS/Layers");
    assert_eq!(layers.as_array().map(Vec::len), Some(2), "{layers}");
}

#[test]
fn a_build_that_is_interrupted_leaves_nothing() {
    use nix::sys::signal::{Signal, kill};
    let lab = Lab::new();
    lab.file("Dockerfile", &from("RUN echo begun; sleep 600\n"));
    let context = lab.context.display().to_string();
    let mut child = lab
        .stack
        .ctl_command(&["build", "-t", "app", &context])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("ctl can be run");
    let stderr = child.stderr.take().expect("it is piped");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    assert!(lines.any(|line| line.is_ok_and(|line| line.ends_with(" begun"))));
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    kill(pid, Signal::SIGINT).expect("it runs");
    child.wait().expect("it ends");
    let sleeps = || {
        lab.stack
            .scratch()
            .cgroups()
            .iter()
            .any(|at| at.to_string_lossy().contains("/build-"))
    };
    tests::command::eventually("the step's end", || (!sleeps()).then_some(()));
    assert!(!lab.stack.ctl(&["images"]).ok().contains("app"));
    lab.built(&from("RUN true\n"), &[]);
}

#[test]
fn steps_have_a_network_of_their_own_the_hosts_or_none() {
    let lab = Lab::new();
    let links = "ls /sys/class/net > /links; ip -o -4 addr show scope global | wc -l > /addresses; cat /etc/hosts > /seen";
    let step = |flag: &str| from(&format!("RUN {flag} {links}\n"));
    let seen = || (lab.sh("cat /links"), lab.sh("cat /addresses"));
    let host_devices = || {
        let devices = fs::read_to_string("/proc/thread-self/net/dev").expect("it is there");
        let names = devices.lines().filter_map(|line| line.split_once(':'));
        names
            .map(|(name, _)| name.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let before = host_devices();

    lab.built(&step(""), &["--add-host", "db:10.1.2.3"]);
    assert_eq!(seen(), ("eth0\nlo\n".to_owned(), "1\n".to_owned()));
    // Neither Docker nor we put these lines into the image.
    assert!(lab.sh("cat /seen").contains("10.1.2.3\tdb"));
    assert!(!lab.sh("cat /etc/hosts").contains("10.1.2.3"));
    // Bridge and firewall are gone with the last step.
    assert_eq!(host_devices(), before);

    lab.built(&step("--network=none"), &[]);
    assert_eq!(seen(), ("lo\n".to_owned(), "0\n".to_owned()));

    lab.built(&step(""), &["--network", "host"]);
    assert_eq!(seen().0, "lo\n");
    let own = "RUN readlink /proc/self/ns/net > /ns\n";
    lab.built(&from(own), &["--network", "host"]);
    let host = fs::read_link("/proc/thread-self/ns/net").expect("it is there");
    assert_eq!(lab.sh("cat /ns").trim(), host.display().to_string());

    let bad = lab.build(&step(""), &["--add-host", "db:nowhere"]);
    assert_ne!(bad.code, 0);
    assert!(bad.err.contains("invalid IP address in add-host"), "{bad}");
}

#[test]
fn steps_have_the_limits_that_were_asked_for() {
    let lab = Lab::new();
    let dockerfile =
        from("RUN ulimit -n > /n; df -k /dev/shm | tail -1 | awk '{print $2}' > /shm\n");
    lab.built(
        &dockerfile,
        &["--ulimit", "nofile=123:456", "--shm-size", "3m"],
    );
    assert_eq!(lab.sh("cat /n /shm"), "123\n3072\n");
    let bad = lab.build(&dockerfile, &["--ulimit", "bogus=1"]);
    assert!(
        bad.code != 0 && bad.err.contains("invalid ulimit type: bogus"),
        "{bad}"
    );
}

#[test]
fn an_archive_on_stdin_is_the_context() {
    let lab = Lab::new();
    lab.file("sub/f", "piped\n");
    lab.file("ignored", "x");
    lab.file(".dockerignore", "ignored\n");
    lab.file("other/Dockerfile", &from("COPY . /c\n"));
    let pack = |flags: &str| {
        let packed = Command::new("tar")
            .args(["-c", flags, "-C"])
            .arg(&lab.context)
            .arg(".")
            .output()
            .expect("tar can be run");
        assert!(packed.status.success());
        packed.stdout
    };
    let temporary = lab.stack.scratch().path("tmp");
    fs::create_dir(&temporary).expect("a directory can be made");
    let build = |args: &[&str], archive: &[u8]| {
        let args = [&["build", "-t", "app"], args, &["-"]].concat();
        let mut command = lab.stack.ctl_command(&args);
        let said = command::run_with_input(command.env("TMPDIR", &temporary), archive);
        let left = fs::read_dir(&temporary).expect("it can be read").count();
        assert_eq!(left, 0, "the context was left behind: {said}");
        said
    };
    for flags in ["-f-", "-zf-"] {
        let said = build(&["--no-cache", "-f", "other/Dockerfile"], &pack(flags));
        assert_eq!(said.code, 0, "{said}");
        assert_eq!(lab.sh("cat /c/sub/f; ls /c"), "piped\nother\nsub\n");
    }
    let said = build(&[], &pack("-f-"));
    assert!(said.code != 0 && said.err.contains("Dockerfile"), "{said}");
    let said = build(&[], b"BZh91AY&SY");
    assert!(said.code != 0 && said.err.contains("bzip2"), "{said}");
}

/// A repository on loopback, until it is dropped.
struct Repository {
    server: Child,
    address: String,
}

impl Repository {
    /// Serves `base`/r.
    fn serve(base: &Path) -> Self {
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            free.local_addr().expect("it has an address").port()
        };
        let server = Command::new("git")
            .args([
                "daemon",
                "--export-all",
                "--reuseaddr",
                "--listen=127.0.0.1",
            ])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", base.display()))
            .process_group(0)
            .spawn()
            .expect("git can be run");
        eventually("git's server", || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            server,
            address: format!("git://127.0.0.1:{port}/r"),
        }
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        // `git daemon` is a child of `git`.
        let group = nix::unistd::Pid::from_raw(self.server.id().cast_signed());
        let _gone = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ended = self.server.wait();
    }
}

#[test]
fn a_repository_is_the_context() {
    let lab = Lab::new();
    let base = lab.stack.scratch().path("git");
    let work = base.join("r");
    fs::create_dir_all(work.join("d")).expect("a directory can be made");
    let git = |args: &[&str]| {
        let identity = [
            "-c",
            "user.name=n",
            "-c",
            "user.email=e",
            "-c",
            "init.defaultBranch=main",
        ];
        let ended = Command::new("git")
            .arg("-C")
            .arg(&work)
            .args(identity)
            .args(args)
            .output();
        let ended = ended.expect("git can be run");
        assert!(ended.status.success(), "{ended:?}");
    };
    git(&["init", "-q"]);
    for content in ["first", "second"] {
        fs::write(work.join("d/f"), content).expect("a file can be written");
        fs::write(work.join("d/Dockerfile"), from("COPY . /c\n")).expect("it can be written");
        git(&["add", "."]);
        git(&["commit", "-q", "-m", content]);
        git(&["tag", content]);
    }
    let repository = Repository::serve(&base);
    for (fragment, content) in [
        ("#first:d", "first"),
        ("#:d", "second"),
        ("#main:/d/", "second"),
    ] {
        let typed = format!("{}{fragment}", repository.address);
        let said = lab.stack.ctl(&["build", "-t", "app", &typed]);
        assert_eq!(said.code, 0, "{said}");
        assert_eq!(
            lab.sh("cat /c/f; ls -A /c"),
            format!("{content}Dockerfile\nf\n")
        );
    }
    for fragment in ["#none:d", "#first:none", "#first:../.."] {
        let said = lab
            .stack
            .ctl(&["build", &format!("{}{fragment}", repository.address)]);
        assert_eq!(said.code, 1, "{said}");
    }
}

/// A web server on loopback with one file, until it is dropped; it counts how often it is asked for it.
struct Web {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Web {
    fn serve(content: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        // Ends with the test's process; it holds nothing but the socket.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let request = lines.next().unwrap_or_default();
                // To the empty line: what is not read would reset the connection.
                let _head = lines.take_while(|line| !line.is_empty()).count();
                let (status, body) = match request.split(' ').nth(1) {
                    Some("/files/data.txt?x=1") => {
                        counted.fetch_add(1, Ordering::SeqCst);
                        ("200 OK", content)
                    }
                    Some("/moved") => ("302 Found\r\nLocation: /files/data.txt?x=1", ""),
                    _ => ("404 Not Found", "none"),
                };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                let _gone = (&stream).write_all(answer.as_bytes());
            }
        });
        Self { address, asked }
    }
}

#[test]
fn files_of_the_web_are_added_and_verified() {
    const CONTENT: &str = "from the web\n";
    let lab = Lab::new();
    let web = Web::serve(CONTENT);
    let url = format!("http://{}/files/data.txt?x=1", web.address);
    let dockerfile = from(&format!("ADD {url} /in/\nADD --chmod=644 {url} /as\n"));
    lab.built(&dockerfile, &[]);
    assert_eq!(
        lab.sh("cat /in/data.txt /as; stat -c '%a %u' /in/data.txt /as"),
        format!("{CONTENT}{CONTENT}600 0\n644 0\n")
    );
    // What it holds is asked for again; as that has not changed, nothing else is done.
    let told = lab.built(&dockerfile, &[]);
    assert_eq!(told.matches("CACHED").count(), 2, "{told}");
    assert_eq!(web.asked.load(Ordering::SeqCst), 4);
    // With a checksum, it need not be asked for.
    let sum = tests::image::digest(CONTENT.as_bytes());
    lab.built(&from(&format!("ADD --checksum={sum} {url} /in/\n")), &[]);
    assert_eq!(web.asked.load(Ordering::SeqCst), 4);
    lab.built(
        &from(&format!("ADD http://{}/moved /in/\n", web.address)),
        &[],
    );
    assert_eq!(lab.sh("cat /in/moved"), CONTENT);

    let wrong = format!("sha256:{}", "0".repeat(64));
    let at = web.address;
    for (rest, reason) in [
        (format!("ADD --checksum={wrong} {url} /"), "digest mismatch"),
        (format!("ADD http://{at}/none /"), "not found"),
        (
            "ADD --checksum=x f /".to_owned(),
            "one source that is an address",
        ),
        (
            format!("ADD http://{at}/r.git /"),
            "does not fetch git repositories",
        ),
    ] {
        let said = lab.build(&from(&rest), &[]);
        assert!(
            said.code != 0 && said.err.contains(reason),
            "{rest}: {said}"
        );
    }
}
