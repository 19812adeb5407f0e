//! The wire: every message and service the four programs exchange, generated
//! from the files under `protos` by this package's build script.
//!
//! Modules follow the protobuf packages, because generated code refers to its
//! neighbours by that path. With the feature `grpc` the services come with
//! tonic's clients and servers; without it there are only messages, which is
//! all that the shim carries.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code; the .proto files hold the comments"
)]

pub mod containerd {
    pub mod events {
        include!(concat!(env!("OUT_DIR"), "/containerd.events.rs"));
    }
    pub mod runc {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/containerd.runc.v1.rs"));
        }
    }
    pub mod runtime {
        pub mod bootstrap {
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.runtime.bootstrap.v1.rs"
                ));
            }
        }
        pub mod sandbox {
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.runtime.sandbox.v1.rs"
                ));
            }
        }
    }
    pub mod services {
        pub mod containers {
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.services.containers.v1.rs"
                ));
            }
        }
        pub mod content {
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.services.content.v1.rs"
                ));
            }
        }
        pub mod diff {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/containerd.services.diff.v1.rs"));
            }
        }
        pub mod events {
            pub mod ttrpc {
                pub mod v1 {
                    include!(concat!(
                        env!("OUT_DIR"),
                        "/containerd.services.events.ttrpc.v1.rs"
                    ));
                }
            }
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.services.events.v1.rs"
                ));
            }
        }
        pub mod images {
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.services.images.v1.rs"
                ));
            }
        }
        pub mod introspection {
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.services.introspection.v1.rs"
                ));
            }
        }
        pub mod leases {
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.services.leases.v1.rs"
                ));
            }
        }
        pub mod namespaces {
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.services.namespaces.v1.rs"
                ));
            }
        }
        pub mod snapshots {
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.services.snapshots.v1.rs"
                ));
            }
        }
        pub mod streaming {
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.services.streaming.v1.rs"
                ));
            }
        }
        pub mod tasks {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/containerd.services.tasks.v1.rs"));
            }
        }
        pub mod transfer {
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.services.transfer.v1.rs"
                ));
            }
        }
        pub mod version {
            pub mod v1 {
                include!(concat!(
                    env!("OUT_DIR"),
                    "/containerd.services.version.v1.rs"
                ));
            }
        }
    }
    pub mod task {
        pub mod v2 {
            include!(concat!(env!("OUT_DIR"), "/containerd.task.v2.rs"));
        }
        pub mod v3 {
            include!(concat!(env!("OUT_DIR"), "/containerd.task.v3.rs"));
        }
    }
    pub mod types {
        include!(concat!(env!("OUT_DIR"), "/containerd.types.rs"));
        pub mod transfer {
            include!(concat!(env!("OUT_DIR"), "/containerd.types.transfer.rs"));
        }
    }
    pub mod v1 {
        pub mod types {
            include!(concat!(env!("OUT_DIR"), "/containerd.v1.types.rs"));
        }
    }
}
pub mod engine {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/engine.v1.rs"));
    }
}
pub mod google {
    pub mod rpc {
        include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
    }
}
pub mod io {
    pub mod containerd {
        pub mod cgroups {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/io.containerd.cgroups.v1.rs"));
            }
            pub mod v2 {
                include!(concat!(env!("OUT_DIR"), "/io.containerd.cgroups.v2.rs"));
            }
        }
    }
}
pub mod runtime {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/runtime.v1.rs"));
    }
}
pub mod runtimeoptions {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/runtimeoptions.v1.rs"));
    }
}
pub mod ttrpc {
    include!(concat!(env!("OUT_DIR"), "/ttrpc.rs"));
}
