//! Containers on a terminal, as a person uses them.

use tests::command::eventually;
use tests::pty::Pty;
use tests::stack::{BUSYBOX, Stack};

const CTRL_C: &[u8] = b"\x03";
const CTRL_P_CTRL_Q: &[u8] = b"\x10\x11";

/// `ctl args…` on a terminal of 30 rows and 90 columns.
fn on_terminal(stack: &Stack, args: &[&str]) -> Pty {
    Pty::spawn(&stack.ctl_command(args), 30, 90)
}

/// Types a command line and waits for what it prints. The marks keep the
/// echo of the line from being taken for its output.
#[track_caller]
fn answers(pty: &mut Pty, line: &str, answer: &str) {
    pty.send(format!("echo \"<\"$({line})\">\"\n").as_bytes());
    pty.expect(&format!("<{answer}>"));
}

#[test]
fn a_shell_on_a_terminal() {
    let stack = Stack::with_busybox();
    let mut pty = on_terminal(&stack, &["run", "-it", "--rm", BUSYBOX, "sh"]);
    pty.expect("# ");
    assert!(pty.is_raw());
    answers(&mut pty, "tty", "/dev/pts/0");
    answers(&mut pty, "echo $TERM", "xterm");
    pty.send(b"exit 23\n");
    assert_eq!(pty.wait(), 23);
    assert!(!pty.is_raw(), "the terminal is as it was before");
}

#[test]
fn the_window_has_the_terminals_size() {
    let stack = Stack::with_busybox();
    let mut pty = on_terminal(&stack, &["run", "-it", "--rm", BUSYBOX, "sh"]);
    pty.expect("# ");
    answers(&mut pty, "stty size", "30 90");
    pty.resize(50, 132);
    // The change travels on its own: ask until it has arrived.
    pty.send(b"while [ \"$(stty size)\" != '50 132' ]; do sleep 0.05; done; echo \"res\"ized\n");
    pty.expect("resized");
    pty.send(b"exit\n");
    assert_eq!(pty.wait(), 0);
}

#[test]
fn ctrl_c_interrupts_the_program_inside_and_not_the_client() {
    let stack = Stack::with_busybox();
    let mut pty = on_terminal(&stack, &["run", "-it", "--rm", BUSYBOX, "sh"]);
    pty.expect("# ");
    pty.send(b"trap 'echo \"inter\"rupted' INT; echo \"set\"up; sleep 1000\n");
    pty.expect("setup");
    pty.send(CTRL_C);
    pty.expect("interrupted");
    pty.send(b"exit 5\n");
    assert_eq!(pty.wait(), 5);
}

#[test]
fn detached_by_keys_and_attached_again() {
    let stack = Stack::with_busybox();
    let mut pty = on_terminal(&stack, &["run", "-it", "--name", "stays", BUSYBOX, "sh"]);
    pty.expect("# ");
    pty.send(b"kept=here\n");
    pty.expect("# ");
    pty.send(CTRL_P_CTRL_Q);
    assert_eq!(pty.wait(), 0);
    assert!(!pty.is_raw());
    assert_eq!(stack.inspect("stays", "/State/Running"), true);

    let mut pty = on_terminal(&stack, &["attach", "stays"]);
    pty.until_raw(true);
    answers(&mut pty, "echo $kept", "here");
    pty.send(b"exit 8\n");
    assert_eq!(pty.wait(), 8);
    eventually("the exit", || {
        (stack.inspect("stays", "/State/ExitCode") == 8).then_some(())
    });
}

#[test]
fn other_detach_keys_may_be_chosen() {
    let stack = Stack::with_busybox();
    let args = [
        "run",
        "-it",
        "--detach-keys",
        "ctrl-a,d",
        "--name",
        "keys",
        BUSYBOX,
        "sh",
    ];
    let mut pty = on_terminal(&stack, &args);
    pty.expect("# ");
    pty.send(b"\x01d");
    assert_eq!(pty.wait(), 0);
    assert_eq!(stack.inspect("keys", "/State/Running"), true);
}

#[test]
fn exec_on_a_terminal() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&["run", "-d", "--name", "main", BUSYBOX, "sleep", "1000"])
        .ok();
    let mut pty = on_terminal(&stack, &["exec", "-it", "main", "sh"]);
    pty.expect("# ");
    answers(&mut pty, "stty size", "30 90");
    pty.send(b"exit 6\n");
    assert_eq!(pty.wait(), 6);
    assert!(!pty.is_raw());
    assert_eq!(stack.inspect("main", "/State/Running"), true);
}

#[test]
fn a_terminal_can_start_a_created_container() {
    let stack = Stack::with_busybox();
    stack
        .ctl(&["create", "-it", "--name", "made", BUSYBOX, "sh"])
        .ok();
    let mut pty = on_terminal(&stack, &["start", "-ai", "made"]);
    pty.expect("# ");
    answers(&mut pty, "echo $((6 * 7))", "42");
    pty.send(b"exit 2\n");
    assert_eq!(pty.wait(), 2);
}

#[test]
fn a_terminal_is_refused_where_there_is_none() {
    let stack = Stack::with_busybox();
    let said = stack.ctl_with_input(&["run", "-it", "--rm", BUSYBOX, "true"], b"x");
    assert_ne!(said.code, 0, "{said}");
    assert!(said.err.contains("TTY"), "{said}");
}
