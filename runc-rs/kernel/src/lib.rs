//! Safe wrappers of the kernel's interfaces where nix has none; the only package with unsafe code.
