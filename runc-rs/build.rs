//! How the program is linked: where it starts, and at a fixed address.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The first instructions are `kernel::entry`'s, which go on to the C library's own.
    println!("cargo::rustc-link-arg-bin=runc-rs=-Wl,--entry=runc_rs_entry");
    // Fifty pages of pointers need no relocation then, at each of two starts, and stay clean in every process that waits.
    println!("cargo::rustc-link-arg-bin=runc-rs=-static");
    println!("cargo::rustc-link-arg-bin=runc-rs=-no-pie");
}
