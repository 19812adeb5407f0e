#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that one job of this repository needs.
#
#   packages.sh build|run|test|bench
#
# Says which packages it installs and why, and installs nothing when all of
# them are there. A package counts as there when the program or file it is
# needed for is: a machine with another vendor's containerd keeps that one,
# and apt-get is told to remove nothing. No service is started: while
# packages are unpacked, a temporary policy-rc.d says no to each.
set -euo pipefail

job=${1:-}

# package | jobs | what must exist | why
needs() {
	cat <<-'TABLE'
		gcc|build run test bench|gcc|links the programs, compiles SQLite, ring and zstd
		g++|test|g++|compiles libFuzzer, which fuzzes the parsers of runc-rs
		libc6-dev|build run test bench|/usr/lib/x86_64-linux-gnu/libc.a|the programs are linked statically
		libseccomp-dev|build run test bench|/usr/lib/x86_64-linux-gnu/libseccomp.a|runc-rs compiles system call filters with it
		pkg-config|build run test bench|pkg-config|finds libseccomp for the compiler
		busybox-static|run test bench|static-busybox|the demo and test images are packed out of it
		nftables|run test|nft|published ports and the way out of containers' networks
		iproute2|test|ip|each test has a network of its own
		git|test|git|builds from a repository's address, and serves one on loopback
		procps|test|ps|`ctl top` shows the host's processes
		docker-registry|test|docker-registry|the registry that pull is tested against
		skopeo|test|skopeo|fills that registry and writes image archives
		containerd|test bench|containerd|real containerd and its ctr, as a peer on both sides
		docker.io|test bench|dockerd|real dockerd and its client, which run containers with runc-rs and are what ctl is held against
		podman|test|podman|real podman, another caller of runc-rs
		iproute2|test|ip|gives those two a network of their own
		strace|test|strace|kills the daemon at a system call, or fails the call
		runc|test bench|runc|the runtime that runc-rs is compared with
		iproute2|test|ip|makes the network devices that containers get
		containernetworking-plugins|test|/usr/lib/cni/bridge|the plugins that the CNI client is tested with
		iptables|test|iptables|two of those use it
		uidmap|test|newuidmap|maps the ids of a user who runs containers without privileges
		criu|test|working-criu|runc-rs and the shim save and restore containers with it
		crun|bench|crun|the other runtime of the benchmark
		qemu-system-x86|test|qemu-system-x86_64|the machine with cgroup v2, systemd and AppArmor that tests run in
		mmdebstrap|test|mmdebstrap|makes the root of that machine
		debian-archive-keyring|test|/usr/share/keyrings/debian-archive-keyring.gpg|mmdebstrap verifies the packages with it
		e2fsprogs|test|mke2fs|makes its disks
		binutils|test|strip|keeps what is copied onto them small
		util-linux|run test bench|setsid|gives an interactive test its terminal; unshare is the floor of the benchmark
	TABLE
}

# Debian's own busybox is linked dynamically, and busybox-static would push it
# out. Where it is installed, the static one is unpacked for us alone.
tools=${CARGO_TARGET_DIR:-$(cd "$(dirname "$0")/../.." && pwd)/target}/tools
static_busybox() {
	local file
	for file in /usr/bin/busybox /bin/busybox "$tools/busybox"; do
		if [ -x "$file" ] && ! head -c 4096 "$file" | grep -qaF ld-linux; then
			return 0
		fi
	done
	return 1
}

unpack_busybox() {
	local scratch
	scratch=$(mktemp -d)
	chmod 0755 "$scratch"
	(cd "$scratch" && apt-get download busybox-static && dpkg-deb -x busybox-static_*.deb .)
	mkdir -p "$tools"
	install -m 0755 "$scratch"/{usr/,}bin/busybox "$tools" 2>/dev/null || [ -x "$tools/busybox" ]
	rm -rf "$scratch"
}

# A kernel may be too new for the distribution's criu. Then Debian's newest is
# unpacked for us alone, with the libraries it needs.
working_criu() {
	local check=(env PATH="$PATH:/usr/sbin:/sbin" criu check)
	[ "$(id -u)" -eq 0 ] || check=(sudo -n "${check[@]}")
	[ ! -x "$tools/criu/criu" ] || check=("$tools/criu/criu" --version)
	"${check[@]}" >/dev/null 2>&1
}

unpack_criu() {
	local scratch mirror file
	scratch=$(mktemp -d)
	# Where this machine has its Debian from: the lists were fetched by now.
	mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | sed -n 1p)
	if [ -z "$mirror" ]; then
		echo 'packages: no mirror of Debian is configured; install a criu that works with this kernel by hand' >&2
		return 1
	fi
	mkdir -p "$scratch"/{lists,archives}/partial "$scratch/cache" "$tools/criu"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$scratch/sources.list"
	local apt=(apt-get -q -o Dir::Etc::SourceList="$scratch/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o Dir::State::Lists="$scratch/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$scratch/cache"
		-o Dir::Cache::archives="$scratch/archives" -o Debug::NoLocking=1 -o APT::Sandbox::User=)
	# Each step says why it fails; as part of a condition, -e does not hold.
	"${apt[@]}" update || return
	"${apt[@]}" --yes --no-install-recommends --download-only install criu || return
	for file in "$scratch"/archives/*.deb; do
		dpkg-deb -x "$file" "$tools/criu" || return
	done
	# By its own place, so that a target directory can be moved.
	cat >"$tools/criu/criu" <<-'RUN'
		#!/bin/sh
		here=$(dirname "$(readlink -f "$0")")
		lib=$here/usr/lib/x86_64-linux-gnu
		exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$here/usr/sbin/criu" "$@"
	RUN
	chmod 0755 "$tools/criu/criu"
	rm -rf "$scratch"
}

present() { # PROBE
	case $1 in
	static-busybox) static_busybox ;;
	working-criu) working_criu ;;
	/*) [ -e "$1" ] ;;
	*) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 ;;
	esac
}

case $job in
build | run | test | bench) ;;
*)
	sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac

missing=()
while IFS='|' read -r package jobs probe why; do
	case " $jobs " in *" $job "*) ;; *) continue ;; esac
	present "$probe" && continue
	[ ${#missing[@]} -gt 0 ] || echo "packages: \`make $job\` needs, and this machine does not have:"
	printf '  %-16s %s\n' "$package" "$why"
	missing+=("$package")
done < <(needs)
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "packages: there is no apt-get here; install these by hand: ${missing[*]}" >&2
	exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
	root=(env)
elif command -v sudo >/dev/null 2>&1; then
	root=(sudo env)
else
	echo "packages: installing needs root; run as root, or: apt-get install ${missing[*]}" >&2
	exit 1
fi

policy=/usr/sbin/policy-rc.d
placed=
trap '[ -z "$placed" ] || "${root[@]}" rm -f "$policy"' EXIT
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
	placed=yes
	"${root[@]}" chmod 0755 "$policy"
fi

# Lists that are absent or too old show as packages that cannot be had; only
# then are they fetched again.
fetch() {
	local packages=() package
	for package in "${missing[@]}"; do
		if [ "$package" = busybox-static ] && dpkg-query -W -f '${Status}' busybox 2>/dev/null | grep -q ' installed'; then
			unpack_busybox || return
		elif [ "$package" = criu ] && dpkg-query -W -f '${Status}' criu 2>/dev/null | grep -q ' installed'; then
			unpack_criu || return
		else
			packages+=("$package")
		fi
	done
	[ ${#packages[@]} -gt 0 ] || return 0
	"${root[@]}" DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-remove --no-install-recommends "${packages[@]}"
}
echo "packages: installing ${missing[*]}"
if ! fetch; then
	echo "packages: the package lists seem to be old; fetching them"
	"${root[@]}" apt-get update
	fetch
fi

if [[ " ${missing[*]} " == *' criu '* ]] && ! working_criu; then
	echo "packages: this kernel is too new for the criu installed; unpacking a newer one"
	unpack_criu
fi

while IFS='|' read -r package jobs probe _; do
	case " $jobs " in *" $job "*) ;; *) continue ;; esac
	if ! present "$probe"; then
		echo "packages: $package was installed, yet $probe is not there" >&2
		exit 1
	fi
done < <(needs)
