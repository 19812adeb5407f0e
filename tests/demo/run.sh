#!/usr/bin/env bash
# Shows the whole stack at work, and leaves the machine as it was.
#
#   tests/demo/run.sh BIN_DIR
#
# 1. packs a small image out of busybox-static (pack-image, no registry);
# 2. lets `ctl load` start a daemon: its root, state and cgroups are the
#    demo's own, so a Docker or containerd on this machine is not touched;
# 3. runs a container, and shows its output, `ctl ps -a` and `ctl logs`;
# 4. removes containers, ends the daemon, and looks for anything left behind,
#    also when interrupted or when a step has failed.
set -euo pipefail

bin=$(cd "${1:?the directory of the built programs}" && pwd)
if [ "$(id -u)" -ne 0 ]; then
	echo 'demo: containers need root; going on with sudo'
	exec sudo "$0" "$bin"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/lite-XXXXXX")
name=${work##*/}
export CONTAINERD_LITE_ROOT=$work/r CONTAINERD_LITE_STATE=$work/s CONTAINERD_LITE_CGROUP_PARENT=$name
unset CTL_HOST

# Processes whose environment, command line or cgroup carries the demo's
# name. This shell and its children do not: only what they export does.
ours() {
	local dir pid
	for dir in /proc/[0-9]*; do
		pid=${dir#/proc/}
		if [ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ]; then continue; fi
		if grep -qsF "$name" "$dir/cgroup"; then
			echo "$pid"
		elif [[ $(readlink "$dir/exe" 2>/dev/null) == "$bin"/* ]] && grep -qsaF "$name" "$dir/environ" "$dir/cmdline"; then
			echo "$pid"
		fi
	done
}
mounts() { awk -v work="$work/" 'index($5, work) == 1 { print $5 }' /proc/self/mountinfo | tac; }
# The demo named the parent cgroup, so removing it is the demo's to do.
cgroups() { find /sys/fs/cgroup -depth -type d -path "*/$name/*" 2>/dev/null || true; }
until_gone() { # COMMAND: waits up to five seconds until it prints nothing
	local _
	for _ in $(seq 100); do
		[ -n "$("$1")" ] || return 0
		sleep 0.05
	done
	return 1
}

clean_up() {
	local status=$? left='' id pid
	trap '' INT TERM HUP
	trap - EXIT
	set +e
	for id in $("$bin/ctl" --host "unix://$work/s/containerd-lite.sock" ps -aq 2>/dev/null); do
		"$bin/ctl" --host "unix://$work/s/containerd-lite.sock" rm -f "$id" >/dev/null
	done
	for pid in $(ours); do
		[[ $(readlink "/proc/$pid/exe") == */containerd-lite ]] && kill -TERM "$pid"
	done
	until_gone ours || left="processes $(ours | xargs)"
	[ -z "$(mounts)" ] || left="$left mounts $(mounts | xargs)"
	until_gone cgroups || left="$left cgroups $(cgroups | xargs)"
	for pid in $(ours); do kill -KILL "$pid"; done
	until_gone ours
	mounts | while read -r at; do umount -l "$at"; done
	cgroups | while read -r at; do rmdir "$at"; done
	find /sys/fs/cgroup -depth -maxdepth 2 -type d -name "$name" -exec rmdir {} +
	[ -n "$(mounts)" ] || rm -rf --one-file-system "$work"
	[ ! -e "$work" ] || left="$left $work"
	if [ -n "$left" ]; then
		echo "demo: had to be cleared away by force: $left" >&2
		[ "$status" -ne 0 ] || status=1
	else
		echo 'demo: cleaned up; nothing is left behind'
	fi
	exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

show() {
	printf '\n$ %s\n' "$(sed "s|$bin/||; s|$work/||g" <<<"$*")"
	"$@"
}

"$bin/pack-image" "$work/demo.tar" demo:latest
show "$bin/ctl" load -i "$work/demo.tar"
show "$bin/ctl" images
# Tests interrupt the demo while this container runs.
if [ -n "${DEMO_PAUSE:-}" ]; then
	"$bin/ctl" run demo:latest sleep "$DEMO_PAUSE" &
	wait $!
fi
show "$bin/ctl" run --name demo demo:latest
show "$bin/ctl" ps -a
show "$bin/ctl" logs demo
show "$bin/ctl" rm demo
echo
