#!/usr/bin/env bash
# Runs tests in a virtual machine that has what most machines have and a
# builder may not: cgroup v2 alone, systemd, AppArmor.
#
#   run.sh [PROGRAM...]
#
# 1. root.sh makes kernel and root image, once.
# 2. cargo builds the test programs; they and what they drive go onto a
#    second disk. Nothing is compiled inside.
# 3. qemu boots, with KVM where that works and without where it does not;
#    inside.sh runs the programs and prints what they print.
#
# PROGRAM narrows the run to test programs of that name, as in
# cgroup/limits_hold, and VM_ARGUMENTS is given to each. The output is cargo's, so that the results can be
# counted the same way; `vm: end` is its last line.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

repository=$PWD
cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-$repository/target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
built=$target/x86_64-unknown-linux-gnu/debug
machine=$target/vm
# Longest that a run may take; without KVM it takes some five minutes.
patience=${VM_PATIENCE:-1800}

# package | its test programs (all, or those named) | those that run nowhere else
suites() {
	cat <<-'TABLE'
		kernel|*|
		cgroup|*|
		runc-rs|unified|unified
	TABLE
}

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo env "PATH=$PATH")

static_busybox() {
	local file
	for file in "$target/tools/busybox" /usr/bin/busybox /bin/busybox; do
		if [ -x "$file" ] && ! head -c 4096 "$file" | grep -qaF ld-linux; then
			echo "$file"
			return
		fi
	done
}

# kind of accelerator that gets as far as the kernel's first process
accelerator() {
	local said
	if [ -r /dev/kvm ] && [ -w /dev/kvm ] || [ ${#as_root[@]} -gt 0 ] && [ -e /dev/kvm ]; then
		said=$("${as_root[@]}" timeout --kill-after=5 15 qemu-system-x86_64 -accel kvm -cpu host -m 512 -nodefaults -no-reboot -display none \
			-kernel "$machine/vmlinuz" -initrd "$machine/initramfs" -append 'console=ttyS0 quiet panic=-1 probe' \
			-serial stdio </dev/null 2>&1)
		if [[ $said == *'vm: it works'* ]]; then
			echo '-accel kvm -cpu host'
			return
		fi
	fi
	echo '-accel tcg,thread=multi -cpu max'
}

# Test programs as cargo has built them: directory|name|program.
programs() {
	sed -nE 's/.*"manifest_path":"([^"]*)\/Cargo.toml","target":\{"kind":\["[a-z-]*"[^}]*"name":"([^"]*)","src_path".*"overflow_checks":[a-z]*,"test":true\}.*"executable":"([^"]*)".*/\1|\2|\3/p' | sort -u
}

# Builds what is wanted, in as few steps as cargo needs for it. What is named
# is built alone: a package's other tests may take long.
build() { # [WANTED...]
	local package names only which packages=() extra=()
	for names in "$@"; do
		package=${names%%/*}
		which=--test=${names#*/}
		[ "${names#*/}" != "${package//-/_}" ] || which=--lib
		"$cargo" test --no-run "$which" --quiet --message-format=json --package="$package" || return
	done
	[ $# -eq 0 ] || return 0
	while IFS='|' read -r package names only; do
		packages+=("--package=$package")
		[ -z "$only" ] || extra+=("$package $only")
	done < <(suites)
	"$cargo" build --tests --quiet --message-format=json "${packages[@]}" || return
	for only in "${extra[@]}"; do
		# shellcheck disable=SC2086 # names are words
		set -- $only
		package=$1
		shift
		"$cargo" build "${@/#/--test=}" --quiet --message-format=json --package="$package" || return
	done
}

fill() { # DISK WANTED...
	local disk=$1 package names directory name program
	shift
	local tree=$disk/tree
	mkdir -p "$tree$repository" "$tree$built/deps" "$tree$target/tools"
	printf '%s\n' "$repository" "$target" >"$disk/paths"
	git ls-files -z | tar --null --files-from=- -c 2>/dev/null | tar -x -C "$tree$repository"
	for program in runc-rs containerd-shim-runc-rs-v2 containerd-lite ctl; do
		[ ! -e "$built/$program" ] || strip -o "$tree$built/$program" "$built/$program" || return
	done
	cp "$(static_busybox)" "$tree$target/tools/busybox"
	cp tests/vm/inside.sh "$disk/"
	build "$@" >"$disk/built" || return
	: >"$disk/programs"
	while IFS='|' read -r directory name program; do
		package=${directory##*/}
		names=$(suites | sed -n "s/^$package|\([^|]*\)|.*/\1/p")
		if [ $# -eq 0 ]; then
			[ "$names" = '*' ] || [[ " $names " == *" $name "* ]] || continue
		else
			[[ " $* " == *" $package/$name "* ]] || continue
		fi
		strip -o "$tree$program" "$program" || return
		echo "$package/$name|$directory|$program" >>"$disk/programs"
	done < <(programs <"$disk/built")
	rm "$disk/built"
	cat >"$disk/environment" <<-VARIABLES
		export CARGO_TARGET_DIR=$target PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
		export HOME=/root VM_ARGUMENTS="${VM_ARGUMENTS:-}" VM_TEST_TIMEOUT=${VM_TEST_TIMEOUT:-600} RUST_BACKTRACE=0
	VARIABLES
	[ -s "$disk/programs" ]
}

if ! "${as_root[@]}" env VM_BUSYBOX="$(static_busybox)" VM_MIRROR="${VM_MIRROR:-}" tests/vm/root.sh "$machine"; then
	echo 'vm: the root could not be made' >&2
	exit 1
fi
run=$(mktemp -d "$target/vm-run.XXXXXX")
trap '"${as_root[@]}" rm -rf "$run"' EXIT
bins=(--workspace)
[ $# -eq 0 ] || [[ " $*" == *' shim/'* || " $*" == *' tests/'* ]] || bins=(--package=runc-rs)
if ! "$cargo" build "${bins[@]}" --bins --quiet || ! fill "$run/disk" "$@"; then
	echo 'vm: there is nothing to run' >&2
	exit 1
fi
size=$(($(du -sm "$run/disk" | cut -f 1) * 5 / 4 + 64))
"${as_root[@]}" mke2fs -q -F -t ext4 -O ^has_journal -E root_owner=0:0 -d "$run/disk" "$run/disk.img" "${size}M" >/dev/null || exit 1
rm -rf "$run/disk"

read -ra accel < <(accelerator)
echo "vm: qemu ${accel[*]}"
# Disks are written to copies that go with qemu. The console, where the
# kernel and systemd speak, is kept for when something is wrong.
TMPDIR=$run "${as_root[@]}" timeout --kill-after=10 "$patience" qemu-system-x86_64 "${accel[@]}" -smp 2 -m 2048 \
	-nodefaults -no-reboot -display none \
	-kernel "$machine/vmlinuz" -initrd "$machine/initramfs" \
	-append 'console=ttyS0 quiet loglevel=4 panic=-1 net.ifnames=0 apparmor=1 security=apparmor mitigations=off systemd.show_status=error' \
	-drive "file=$machine/root.img,format=raw,if=virtio,snapshot=on" \
	-drive "file=$run/disk.img,format=raw,if=virtio,snapshot=on" \
	-device virtio-rng-pci \
	-serial "file:$run/console" -serial stdio </dev/null | sed -u 's|\r||' | tee "$run/said"
if ! grep -qx 'vm: end' "$run/said"; then
	echo "vm: did not get to its end; the console's last lines:"
	tail -n 40 "$run/console"
	exit 1
fi
