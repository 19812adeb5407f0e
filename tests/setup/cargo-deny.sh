#!/usr/bin/env bash
# Prints the path of a cargo-deny, building one under the target directory if
# the machine has none. Unoptimised on purpose: it runs for a second, and
# builds in a third of the time.
set -euo pipefail

version=0.20.2
here=$(cd "$(dirname "$0")/../.." && pwd)
tools=${CARGO_TARGET_DIR:-$here/target}/tools

found=$(command -v cargo-deny || true)
if [ -z "$found" ]; then
	found=$tools/bin/cargo-deny
	if [ ! -x "$found" ]; then
		echo "cargo-deny: not installed; building version $version into $tools" >&2
		mkdir -p "$tools"
		# Outside the repository, where .cargo/config.toml would link it statically.
		(cd "$tools" && CARGO_TARGET_DIR=$tools/build CARGO_PROFILE_DEV_DEBUG=0 \
			"${CARGO:-cargo}" install --quiet --locked --debug --root "$tools" "cargo-deny@$version") >&2
		rm -rf "$tools/build"
	fi
fi
echo "$found"
