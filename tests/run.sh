#!/usr/bin/env bash
# Runs the checks, and with `all` every test as well.
#
#   tests/run.sh check|all
#
# 1. packages: installs what the tests need (tests/setup/packages.sh).
# 2. checks: fmt, clippy, rustdoc, cargo-deny; each counts as one test.
# 3. tests: unit, integration and black-box tests of the whole workspace,
#    with the programs built beforehand in the same profile; the shim's once
#    more with runc-rs in runc's place.
# 4. machine: some of them again in a virtual machine (tests/vm/run.sh), and
#    those that need cgroup v2, systemd or AppArmor.
# 5. fuzzing: each target of tests/fuzz counts as one test, for FUZZ_SECONDS.
# 6. the count: the last line is `N passed, N failed, N skipped`.
#
# A test that meets a gap from tests/known-gaps.txt notes it in $TESTS_SKIPPED
# and counts as skipped; a gap that is not listed there fails its test.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-$PWD/target}
mkdir -p "$target"
log=$target/test-log.txt
shim_log=$target/shim-log.txt
machine_log=$target/vm-log.txt
export TESTS_SKIPPED=$target/test-skipped.txt
TESTS_IGNORED=$target/test-ignored.txt
: >"$TESTS_SKIPPED"
: >"$TESTS_IGNORED"
passed=0 failed=0 skipped=0
gated_before=0 counted_failed=0
failures=()

check() { # NAME COMMAND...
	local name=$1
	shift
	printf '\n== %s: %s\n' "$name" "$*"
	if "$@"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		failures+=("$name: $*")
	fi
}

listed_gap() { # NAME
	grep -Eq "^$1([[:space:]]|\$)" tests/known-gaps.txt
}

run_checks() {
	check fmt "$cargo" fmt --all --check
	check clippy "$cargo" clippy --workspace --all-targets --quiet -- -D warnings
	# A module's story links to the private functions that do its steps, and
	# those are documented too; what would break without them is no mistake.
	check rustdoc env RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' "$cargo" doc --workspace --no-deps --document-private-items --quiet

	local deny
	if ! deny=$(tests/setup/cargo-deny.sh); then
		failed=$((failed + 1))
		failures+=("cargo-deny: could not be built")
		return
	fi
	check licences "$deny" --log-level error check bans licenses sources
	printf '\n== advisories: known vulnerabilities of dependencies\n'
	local said
	if said=$("$deny" --log-level error check advisories 2>&1); then
		passed=$((passed + 1))
	elif grep -q 'failed to fetch advisory database' <<<"$said" && listed_gap AdvisoryDatabase; then
		skipped=$((skipped + 1))
		echo "AdvisoryDatabase: cargo-deny check advisories" >>"$TESTS_SKIPPED"
	else
		echo "$said"
		failed=$((failed + 1))
		failures+=("advisories: $deny check advisories")
	fi
}

run_tests() {
	printf '\n== programs: %s build --workspace --bins\n' "$cargo"
	if ! "$cargo" build --workspace --bins --quiet; then
		failed=$((failed + 1))
		failures+=("programs: they do not build")
		return
	fi
	# Real namespaces, mounts and cgroups: the test programs run as root.
	if [ "$(id -u)" -ne 0 ]; then
		export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="sudo --preserve-env env PATH=$PATH"
	fi
	printf '\n== tests: %s test --workspace --no-fail-fast\n' "$cargo"
	local ended=0
	timeout --foreground 1800 "$cargo" test --workspace --no-fail-fast 2>&1 | tee "$log" || ended=${PIPESTATUS[0]}

	count "$log" ''
	if [ "$ended" -ne 0 ] && [ "$counted_failed" -eq 0 ]; then
		failed=$((failed + 1))
		failures+=("$cargo test ended with status $ended")
	fi
}

# The shim's own suite has Debian's runc below it; here it has runc-rs.
run_shim_on_runc_rs() {
	local runtime=$target/x86_64-unknown-linux-gnu/debug/runc-rs ended=0
	printf '\n== shim: its suite with runc-rs as the runtime\n'
	SHIM_TEST_RUNTIME=$(realpath "$runtime") timeout --foreground 900 \
		"$cargo" test --workspace --test shim --no-fail-fast 2>&1 | tee "$shim_log" || ended=${PIPESTATUS[0]}
	count "$shim_log" 'runc-rs: '
	if [ "$ended" -ne 0 ] && [ "$counted_failed" -eq 0 ]; then
		failed=$((failed + 1))
		failures+=("runc-rs: the shim's suite ended with status $ended")
	fi
}

# What a log in cargo's form says, added to the totals. PREFIX tells its tests
# from another log's.
count() { # LOG PREFIX
	local log=$1 prefix=$2 started results tests_passed tests_ignored
	read -r tests_passed counted_failed tests_ignored results < <(awk '
		/^test result: / {
			for (i = 1; i <= NF; i++) {
				if ($(i + 1) ~ /^passed/) p += $i
				if ($(i + 1) ~ /^failed/) f += $i
				if ($(i + 1) ~ /^ignored/) g += $i
			}
			n++
		}
		END { print p + 0, f + 0, g + 0, n + 0 }' "$log")
	started=$(grep -cE '^ +(Running|Doc-tests) ' "$log")
	local gated
	gated=$(grep -vc '^AdvisoryDatabase' "$TESTS_SKIPPED")
	gated=$((gated - gated_before))
	gated_before=$((gated_before + gated))
	passed=$((passed + tests_passed - gated))
	failed=$((failed + counted_failed))
	skipped=$((skipped + gated + tests_ignored))
	sed -nE 's/^test (.*::)?([^:]+) \.\.\. ignored.*$/\2: \1\2/p' "$log" >>"$TESTS_IGNORED"
	while read -r line; do failures+=("$prefix$line"); done < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log")
	# A test program that was killed, or never built, reports no result.
	local silent=$((started - results))
	if [ "$silent" -gt 0 ]; then
		failed=$((failed + silent))
		counted_failed=$((counted_failed + silent))
		failures+=("$prefix$silent test programs ended without a result")
	fi
}

# The same and more on cgroup v2, under systemd and AppArmor.
run_machine() {
	printf '\n== machine: tests/vm/run.sh\n'
	local ended=0
	tests/vm/run.sh 2>&1 | tee "$machine_log" || ended=${PIPESTATUS[0]}
	sed -n 's/^vm: skipped //p' "$machine_log" >>"$TESTS_SKIPPED"
	count "$machine_log" 'vm: '
	if [ "$ended" -ne 0 ]; then
		failed=$((failed + 1))
		failures+=("vm: tests/vm/run.sh ended with status $ended")
	fi
}

run_fuzz() {
	printf '\n== fuzzing: tests/fuzz/run.sh, %s seconds for each target\n' "${FUZZ_SECONDS:-60}"
	local outcome name rest told=0 targets=(tests/fuzz/targets/*.rs)
	while read -r outcome name rest; do
		echo "$outcome $name $rest"
		told=$((told + 1))
		if [ "$outcome" = ok ]; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
			failures+=("fuzzing: $name")
		fi
	done < <(tests/fuzz/run.sh)
	if [ "$told" -ne ${#targets[@]} ]; then
		failed=$((failed + 1))
		failures+=("fuzzing: $told of ${#targets[@]} targets were run")
	fi
}

case ${1:-} in
check)
	tests/setup/packages.sh build || exit 1
	run_checks
	;;
all)
	if ! tests/setup/packages.sh test; then
		echo '0 passed, 1 failed, 0 skipped'
		exit 1
	fi
	run_checks
	run_tests
	run_shim_on_runc_rs
	run_machine
	run_fuzz
	;;
*)
	sed -n '2,18s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac

echo
if [ "$skipped" -gt 0 ]; then
	echo 'Skipped (each is listed with its reason in tests/known-gaps.txt):'
	sort "$TESTS_SKIPPED" "$TESTS_IGNORED" | while IFS=: read -r need what; do
		printf '  %s:%s\n    %s\n' "$need" "$what" "$(sed -n "s/^${need}[[:space:]]*#* *//p" tests/known-gaps.txt)"
	done
fi
if [ ${#failures[@]} -gt 0 ]; then
	echo 'Failed:'
	printf '  %s\n' "${failures[@]}"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
