# What a newcomer types. The work is done by the scripts in scripts/; each can be run alone.

INPUT ?=
PREFIX ?=
CUDA ?=
DESTDIR ?=
export INPUT PREFIX DESTDIR CUDA
# Those of scripts/bench.
export QUICK DIMS SIZES SWEEP THREADS PRECISION PAGE

.PHONY: help demo test build bench bench-peers bundle setup install uninstall clean
.DEFAULT_GOAL := help

help: ## Show this list
	@echo 'make TARGET, where TARGET is one of'
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1	\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: ## Translate a video: the project's own, INPUT=clip.mp4 or INPUT=/dev/video0
	@scripts/demo --check
	@$(MAKE) --no-print-directory setup
	@scripts/demo

test: setup ## Run every check: formatting, clippy, tests, documentation, its launch lines
	@scripts/setup-system --mpi || echo 'Training in several processes cannot be tested here.'
	@scripts/test

build: setup ## Build the plugin and the programs in release
	@scripts/build

bench: setup ## Measure all that this machine can run, into docs/benchmarks.md; QUICK=1 for a look
	@scripts/bench

bench-peers: setup ## Install the engines that bench compares with, about 6 GB
	@scripts/bench-peers

bundle: setup ## Make an archive for hosts with PyTorch 2.11 but without GStreamer
	@scripts/bundle

setup: ## Install what is missing; CUDA=1 or CUDA=0 chooses the kind of libtorch
	@scripts/setup-system
	@scripts/setup-libtorch

# Root has neither our Rust nor our libtorch: `make build` comes before `sudo make install PREFIX=/usr`.
install: $(if $(PREFIX),,build) ## Install for this user, or for everyone with PREFIX=/usr (as root, after make build)
	@scripts/install

uninstall: ## Remove what install put there (with the same PREFIX)
	@scripts/install --remove

clean: ## Remove what was built and what the demo made
	@scripts/clean
