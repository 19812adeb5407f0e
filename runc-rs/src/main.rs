//! An OCI runtime with runc's command line.

fn main() -> std::process::ExitCode {
    runc_rs::main()
}
