#!/usr/bin/env bash
# Makes what the virtual machine boots from: kernel, initramfs, root image.
#
#   root.sh DIR
#
# VM_MIRROR names another mirror than Debian's own, VM_BUSYBOX a static busybox.
#
# Everything comes from Debian packages: a minimal bookworm with systemd,
# D-Bus, AppArmor and runc, and the cloud kernel, which is unpacked and
# installed nowhere. DIR keeps the result; it is made again when this script
# or what it puts into the images changes. Needs root.
set -euo pipefail
cd "$(dirname "$0")"
dir=$1
here=$PWD
suite=bookworm
busybox=${VM_BUSYBOX:-busybox}

# package | why it is in the root
packages() {
	cut -d '|' -f 1 <<-'TABLE' | paste -sd ,
		systemd|the manager that makes cgroups with --systemd-cgroup
		systemd-sysv|makes it the first process
		libpam-systemd|starts a user's own manager
		dbus|the system bus
		dbus-user-session|a user's own bus
		apparmor|loads profiles
		kmod|loads modules
		runc|the runtime that runc-rs is compared with
		busybox-static|what containers run
		util-linux|mount, setsid, unshare
		iproute2|what a network namespace holds
		uidmap|newuidmap and newgidmap
	TABLE
}

key=$(cat root.sh init vm-tests.service | sha256sum | cut -c 1-16)
[ "$(cat "$dir/key" 2>/dev/null)" = "$key" ] && exit 0
rm -rf "$dir"
mkdir -p "$dir"
work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root

echo "vm: making a $suite root with systemd (once; kept in $dir)"
export here
# shellcheck disable=SC2016 # expanded by the shells that mmdebstrap runs
mmdebstrap --quiet --variant=minbase --include="$(packages)" \
	--aptopt='Acquire::Retries "3"' \
	--dpkgopt=path-exclude=/usr/share/doc/* --dpkgopt=path-exclude=/usr/share/man/* \
	--dpkgopt=path-exclude=/usr/share/locale/* \
	--customize-hook='cd "$1" && mkdir tmp/kernel && chroot . sh -ec "
		cd /tmp/kernel
		apt-get -qq -o APT::Sandbox::User=root download \$(apt-cache depends linux-image-cloud-amd64 | sed -n \"s/^ *Depends: //p\" | head -n 1)
		dpkg-deb -x *.deb .
		cp -r lib/modules /lib/
		cp boot/vmlinuz-* /vmlinuz
		depmod \$(ls /lib/modules)
		rm -rf /tmp/kernel"' \
	--customize-hook='chroot "$1" sh -ec "
		useradd --uid 1000 --create-home --shell /bin/sh tester
		mkdir -p /var/lib/systemd/linger && touch /var/lib/systemd/linger/tester
		echo vm >/etc/hostname
		echo 127.0.0.1 localhost vm >/etc/hosts
		echo 0123456789abcdef0123456789abcdef >/etc/machine-id
		: >/etc/fstab
		systemctl --quiet mask getty.target apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
			e2scrub_all.timer fstrim.timer systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-random-seed.service"' \
	--customize-hook='mkdir "$1/payload" && cp "$here/vm-tests.service" "$1/etc/systemd/system/"
		chroot "$1" systemctl --quiet enable vm-tests.service' \
	"$suite" "$root" ${VM_MIRROR:+"$VM_MIRROR"}

mv "$root/vmlinuz" "$dir/vmlinuz"

# The initramfs knows one thing: which modules to load for the root's disk.
initramfs=$work/initramfs
mkdir -p "$initramfs"/{bin,dev,proc,sys,root,modules}
cp "$busybox" "$initramfs/bin/busybox"
install -m 0755 init "$initramfs/init"
version=$(ls "$root/lib/modules")
for module in virtio_pci virtio_blk ext4; do
	chroot "$root" modprobe --set-version "$version" --show-depends "$module"
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' |
	while read -r file; do
		cp "$root$file" "$initramfs/modules/"
		basename "$file" >>"$initramfs/modules/order"
	done
(cd "$initramfs" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$dir/initramfs"

mke2fs -q -t ext4 -O ^has_journal -E root_owner=0:0 -d "$root" "$dir/root.img" 1500M >/dev/null
echo "$key" >"$dir/key"
