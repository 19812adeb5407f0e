#!/usr/bin/env bash
# Fuzzes the parsers of runc-rs, two at a time.
#
#   tests/fuzz/run.sh [TARGET...]        all of targets/ without a name
#
# FUZZ_SECONDS is the time for each (60). What has been found interesting is
# kept in <target>/fuzz/corpus and grows from run to run; an input that crashes,
# hangs or eats memory is left in <target>/fuzz/artifacts and named. One line
# for each target goes to standard output: `ok` or `FAILED`, its name, and how
# many inputs were run.
#
# Stable Rust will do: the coverage that libFuzzer needs is a pass of LLVM's.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
seconds=${FUZZ_SECONDS:-60}
work=${CARGO_TARGET_DIR:-$here/../../target}/fuzz
mkdir -p "$work"

# The flags replace those of .cargo/config.toml: libFuzzer is not linked statically.
coverage=(
	-Cpasses=sancov-module
	-Cllvm-args=-sanitizer-coverage-level=4
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters
	-Cllvm-args=-sanitizer-coverage-pc-table
	-Cllvm-args=-sanitizer-coverage-trace-compares
	--cfg=fuzzing
)
RUSTFLAGS="${coverage[*]}" CARGO_TARGET_DIR=$work/build \
	"${CARGO:-cargo}" build --quiet --release --manifest-path "$here/Cargo.toml" >&2 || exit 1

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(basename -s .rs "$here"/targets/*.rs)

fuzz() { # TARGET
	local corpus=$work/corpus/$1 artifacts=$work/artifacts/$1 log=$work/$1.log seeds=("$here/seeds/$1")
	mkdir -p "$corpus" "$artifacts"
	[ -d "${seeds[0]}" ] || seeds=()
	local outcome=ok
	"$work/build/x86_64-unknown-linux-gnu/release/$1" "$corpus" "${seeds[@]}" \
		-dict="$here/json.dict" -artifact_prefix="$artifacts/" -max_total_time="$seconds" \
		-max_len=16384 -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1 || outcome=FAILED
	local runs
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	[ -n "$runs" ] && [ "$runs" -gt 1 ] || outcome=FAILED
	echo "$outcome $1 ${runs:-0} runs"
	if [ "$outcome" = FAILED ]; then
		tail -n 40 "$log" >&2
		return 1
	fi
}
export -f fuzz
export here seconds work
printf '%s\n' "${targets[@]}" | xargs -P "${FUZZ_JOBS:-2}" -I{} bash -c 'fuzz {}'
