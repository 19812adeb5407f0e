#!/usr/bin/env bash
# Measures the programs in BIN_DIR against their peers and prints one table.
#
#   tests/bench/run.sh BIN_DIR
#
# Runs in a mount namespace of its own. crun refuses the hybrid layout (v1
# controllers with cgroup v2 beside them), so there the v2 mount is taken
# away inside this namespace, for everybody measured alike.
set -euo pipefail

bin=$(cd "${1:?the directory of the built programs}" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
if [ "$(id -u)" -ne 0 ]; then
	echo 'bench: containers need root; going on with sudo'
	exec sudo "$0" "$bin"
fi
if [ "${BENCH_NAMESPACE:-}" != yes ]; then
	BENCH_NAMESPACE=yes exec unshare --mount --propagation private "$0" "$bin"
fi
if mountpoint -q /sys/fs/cgroup/unified; then
	umount /sys/fs/cgroup/unified
fi
exec env TESTS_BIN_DIR="$bin" PATH="$PATH:/usr/sbin:/sbin" "$bin/bench" "$here/../bench-results"
