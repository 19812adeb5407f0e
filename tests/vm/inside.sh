#!/bin/bash
# Runs inside the virtual machine: every test program that the second disk
# lists, with what they print on the second serial line. `vm: end` is the
# last line of a run that got to its end.
#
# The disk holds the repository and the built programs below their own paths,
# as some of those are compiled into the tests.
#
# Through a pipe: nobody is to think that he writes to a terminal.
exec > >(cat >/dev/ttyS1) 2>&1 </dev/null
writer=$!
while read -r path; do
	mkdir -p "$path"
	mount --bind "/payload/tree$path" "$path"
done </payload/paths
# shellcheck source=/dev/null
. /payload/environment
export TESTS_SKIPPED=/tmp/tests-skipped
: >"$TESTS_SKIPPED"

echo "vm: $(uname -r), $(stat -fc %T /sys/fs/cgroup), controllers $(cat /sys/fs/cgroup/cgroup.controllers), security $(cat /sys/kernel/security/lsm)"
while IFS='|' read -r name directory program; do
	echo "     Running vm $name"
	cd "$directory" || continue
	# shellcheck disable=SC2086 # arguments are words
	timeout --kill-after=10 "$VM_TEST_TIMEOUT" "$program" $VM_ARGUMENTS || echo "vm: $name ended with status $?"
done </payload/programs
sed 's/^/vm: skipped /' "$TESTS_SKIPPED"
echo 'vm: end'
exec >/dev/null 2>&1
wait "$writer"
systemctl poweroff --force --force
