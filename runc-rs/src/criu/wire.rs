//! The messages of criu's RPC that we use, as protobuf has them on the wire: field numbers are criu's, unused fields are left out.

use prost::{Enumeration, Message};

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum Kind {
    Empty = 0,
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    /// From criu: something has happened, go on?
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

impl Kind {
    /// The name that criu's own messages have for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Empty => "EMPTY",
            Kind::Dump => "DUMP",
            Kind::Restore => "RESTORE",
            Kind::PreDump => "PRE_DUMP",
            Kind::Notify => "NOTIFY",
            Kind::FeatureCheck => "FEATURE_CHECK",
            Kind::Version => "VERSION",
        }
    }
}

/// How the cgroups of a checkpoint are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(crate) enum CgroupMode {
    Ignore = 0,
    None = 1,
    Props = 2,
    Soft = 3,
    Full = 4,
    Strict = 5,
    Default = 6,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub(crate) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) options: Option<Options>,
    #[prost(bool, optional, tag = "3")]
    pub(crate) notify_success: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(crate) keep_open: Option<bool>,
    #[prost(message, optional, tag = "5")]
    pub(crate) features: Option<Features>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Options {
    /// Descriptor numbers here are those of the process that asks.
    #[prost(int32, required, tag = "1")]
    pub(crate) images_dir_fd: i32,
    #[prost(int32, optional, tag = "2")]
    pub(crate) pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub(crate) leave_running: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(crate) ext_unix_sk: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub(crate) tcp_established: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub(crate) evasive_devices: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub(crate) shell_job: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub(crate) file_locks: Option<bool>,
    #[prost(int32, optional, tag = "9")]
    pub(crate) log_level: Option<i32>,
    #[prost(string, optional, tag = "10")]
    pub(crate) log_file: Option<String>,
    #[prost(message, optional, tag = "11")]
    pub(crate) page_server: Option<PageServer>,
    #[prost(bool, optional, tag = "12")]
    pub(crate) notify_scripts: Option<bool>,
    #[prost(string, optional, tag = "13")]
    pub(crate) root: Option<String>,
    #[prost(string, optional, tag = "14")]
    pub(crate) parent_img: Option<String>,
    #[prost(bool, optional, tag = "15")]
    pub(crate) track_mem: Option<bool>,
    #[prost(bool, optional, tag = "16")]
    pub(crate) auto_dedup: Option<bool>,
    #[prost(int32, optional, tag = "17")]
    pub(crate) work_dir_fd: Option<i32>,
    #[prost(bool, optional, tag = "18")]
    pub(crate) link_remap: Option<bool>,
    #[prost(message, repeated, tag = "23")]
    pub(crate) external_mounts: Vec<ExternalMount>,
    #[prost(bool, optional, tag = "24")]
    pub(crate) manage_cgroups: Option<bool>,
    #[prost(message, repeated, tag = "25")]
    pub(crate) cgroup_roots: Vec<CgroupRoot>,
    #[prost(bool, optional, tag = "26")]
    pub(crate) restore_sibling: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub(crate) inherit_fds: Vec<InheritFd>,
    #[prost(enumeration = "CgroupMode", optional, tag = "34")]
    pub(crate) manage_cgroups_mode: Option<i32>,
    #[prost(string, repeated, tag = "37")]
    pub(crate) external: Vec<String>,
    #[prost(uint32, optional, tag = "38")]
    pub(crate) empty_ns: Option<u32>,
    #[prost(message, repeated, tag = "39")]
    pub(crate) join_namespaces: Vec<JoinNamespace>,
    #[prost(string, optional, tag = "44")]
    pub(crate) freeze_cgroup: Option<String>,
    #[prost(bool, optional, tag = "46")]
    pub(crate) tcp_skip_in_flight: Option<bool>,
    #[prost(bool, optional, tag = "48")]
    pub(crate) lazy_pages: Option<bool>,
    #[prost(bool, optional, tag = "50")]
    pub(crate) orphan_pts_master: Option<bool>,
    #[prost(string, optional, tag = "51")]
    pub(crate) config_file: Option<String>,
    #[prost(string, optional, tag = "53")]
    pub(crate) lsm_profile: Option<String>,
    #[prost(string, optional, tag = "63")]
    pub(crate) lsm_mount_context: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PageServer {
    #[prost(string, optional, tag = "1")]
    pub(crate) address: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) port: Option<i32>,
}

/// At a dump the place in the container and a name for it, at a restore that name and the place on the host.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ExternalMount {
    #[prost(string, required, tag = "1")]
    pub(crate) key: String,
    #[prost(string, required, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CgroupRoot {
    #[prost(string, optional, tag = "1")]
    pub(crate) controller: Option<String>,
    #[prost(string, required, tag = "2")]
    pub(crate) path: String,
}

/// A descriptor of criu's, by its number there, for what an image knows as `key`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct InheritFd {
    #[prost(string, required, tag = "1")]
    pub(crate) key: String,
    #[prost(int32, required, tag = "2")]
    pub(crate) fd: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct JoinNamespace {
    #[prost(string, required, tag = "1")]
    pub(crate) kind: String,
    #[prost(string, required, tag = "2")]
    pub(crate) file: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Features {
    #[prost(bool, optional, tag = "1")]
    pub(crate) mem_track: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub(crate) lazy_pages: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Response {
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub(crate) kind: i32,
    #[prost(bool, required, tag = "2")]
    pub(crate) success: bool,
    #[prost(message, optional, tag = "4")]
    pub(crate) restored: Option<Restored>,
    #[prost(message, optional, tag = "5")]
    pub(crate) notify: Option<Notify>,
    #[prost(int32, optional, tag = "7")]
    pub(crate) errno: Option<i32>,
    #[prost(message, optional, tag = "8")]
    pub(crate) features: Option<Features>,
    #[prost(message, optional, tag = "10")]
    pub(crate) version: Option<Version>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Restored {
    #[prost(int32, required, tag = "1")]
    pub(crate) pid: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Notify {
    /// What has happened: `post-dump`, `setup-namespaces`, ….
    #[prost(string, optional, tag = "1")]
    pub(crate) script: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) pid: Option<i32>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Version {
    #[prost(int32, required, tag = "1")]
    pub(crate) major: i32,
    #[prost(int32, required, tag = "2")]
    pub(crate) minor: i32,
    #[prost(int32, optional, tag = "4")]
    pub(crate) sublevel: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the encoding rules of protobuf: a tag is the field's number times eight plus its wire type.
    #[test]
    fn fields_have_criu_s_numbers() {
        let request = Request {
            kind: Kind::Dump as i32,
            options: Some(Options {
                images_dir_fd: 5,
                freeze_cgroup: Some("/f".to_owned()),
                empty_ns: Some(0x4000_0000),
                lsm_mount_context: Some("c".to_owned()),
                ..Options::default()
            }),
            ..Request::default()
        };
        let options = [
            &[0x08, 5][..],
            &[0xb0, 0x02, 0x80, 0x80, 0x80, 0x80, 0x04],
            &[0xe2, 0x02, 2, b'/', b'f'],
            &[0xfa, 0x03, 1, b'c'],
        ]
        .concat();
        let mut wanted = vec![0x08, 1, 0x12, options.len() as u8];
        wanted.extend(options);
        assert_eq!(request.encode_to_vec(), wanted);
    }
}
