#!/usr/bin/env bash
# Measures the programs in BIN_DIR against their peers and prints one table.
#
#   [BENCH_PEERS=ROOT] tests/bench/run.sh BIN_DIR [runtimes|shims|clients|pulls]
#
# The peers are the installed ones (Debian's packages, on a fresh machine).
# BENCH_PEERS names the root directory of another system with merged /usr, as
# mmdebstrap or debootstrap make it, whose runc, crun and containerd are
# measured instead: its /usr is laid over ours, so that they run with their
# own libraries and without anything in between. Our programs are static and
# do not notice.
#
# BENCH_TMPFS=yes measures on a tmpfs laid over /tmp: for a machine whose disk
# is busy with other things.
#
# Runs in a mount namespace of its own. crun refuses the hybrid layout (v1
# controllers with cgroup v2 beside them), so there the v2 mount is taken
# away inside this namespace, for everybody measured alike.
set -euo pipefail

bin=$(cd "${1:?the directory of the built programs}" && pwd)
part=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
if [ "$(id -u)" -ne 0 ]; then
	echo 'bench: containers need root; going on with sudo'
	exec sudo --preserve-env=BENCH_PEERS,BENCH_TMPFS "$here/run.sh" "$bin" $part
fi
if [ "${BENCH_NAMESPACE:-}" != yes ]; then
	BENCH_NAMESPACE=yes exec unshare --mount --propagation private "$here/run.sh" "$bin" $part
fi
hidden=/sys/fs/cgroup/unified
if mountpoint -q "$hidden"; then
	umount "$hidden"
	# crun takes the empty place for a hierarchy and makes directories there:
	# in a place that goes with the namespace.
	mount -t tmpfs tmpfs "$hidden"
fi
if [ "${BENCH_TMPFS:-}" = yes ]; then
	mount -t tmpfs -o mode=1777 tmpfs /tmp
fi
if [ -n "${BENCH_PEERS:-}" ]; then
	mount --bind "$BENCH_PEERS/usr" /usr
fi
exec env TESTS_BIN_DIR="$bin" PATH="$PATH:/usr/sbin:/sbin" "$bin/bench" "$here/../bench-results" $part
