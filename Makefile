# Two commands matter: `make run` shows the stack at work, `make test` runs
# every test. Both do their own set-up, and say what they install and why.

SHELL := /bin/bash
CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
# Where built programs are; `make install BIN_DIR=…` takes them from elsewhere.
TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),$(CURDIR)/target)
BUILD_DIR := $(TARGET_DIR)/x86_64-unknown-linux-gnu
BIN_DIR ?= $(BUILD_DIR)/release
PROGRAMS := runc-rs containerd-shim-runc-rs-v2 containerd-lite ctl

bindir = $(DESTDIR)$(PREFIX)/bin
unitdir = $(DESTDIR)$(PREFIX)/lib/systemd/system
bashdir = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fishdir = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

.PHONY: help build run test check bench install uninstall clean

help: ## Say what can be made (the default)
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Set up, build, and run a container through the whole stack; cleans up after itself
	@tests/setup/packages.sh run
	$(CARGO) build --release --workspace --bins
	@tests/demo/run.sh "$(BIN_DIR)"

test: ## Set up, and run every check and every test (needs root, or sudo)
	@tests/run.sh all

check: ## Formatting, lints, documentation, licences; no tests
	@tests/run.sh check

bench: ## Set up, and measure against runc, crun and containerd (needs root)
	@tests/setup/packages.sh bench
	$(CARGO) build --release --workspace --bins
	@tests/bench/run.sh "$(BIN_DIR)"

build: ## Build the four programs, release profile
	@tests/setup/packages.sh build
	$(CARGO) build --release --workspace --bins

install: ## Install programs, completions and systemd unit (PREFIX, DESTDIR; `make build` first)
	@for p in $(PROGRAMS); do \
		[ -x "$(BIN_DIR)/$$p" ] || { echo "install: $(BIN_DIR)/$$p is not there; run 'make build' first" >&2; exit 1; }; \
	done
	install -d "$(bindir)" "$(unitdir)" "$(bashdir)" "$(zshdir)" "$(fishdir)"
	install -m 0755 $(PROGRAMS:%="$(BIN_DIR)/%") "$(bindir)"
	sed 's|@bindir@|$(PREFIX)/bin|' containerd-lite/systemd/containerd-lite.service.in > "$(unitdir)/containerd-lite.service"
	chmod 0644 "$(unitdir)/containerd-lite.service"
	"$(BIN_DIR)/ctl" completion bash > "$(bashdir)/ctl"
	"$(BIN_DIR)/ctl" completion zsh > "$(zshdir)/_ctl"
	"$(BIN_DIR)/ctl" completion fish > "$(fishdir)/ctl.fish"

uninstall: ## Remove what install put there
	rm -f $(PROGRAMS:%="$(bindir)/%") "$(unitdir)/containerd-lite.service" \
		"$(bashdir)/ctl" "$(zshdir)/_ctl" "$(fishdir)/ctl.fish"

clean: ## Remove what was built
	$(CARGO) clean
