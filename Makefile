# Set-up and everyday tasks. On Linux without a Vulkan driver `make vulkan` installs Mesa's software driver; the other targets
# ask first, or need KILN_INSTALL=1. If there is a driver, nothing is installed. macOS and Windows need only cargo.

CARGO ?= cargo
KILN := target/release/kiln
# Without a GPU, tests fail instead of being skipped.
export KILN_REQUIRE_GPU ?= 1
export KILN_REQUIRE_WINDOW

.PHONY: help demo check test test-tools robustness lint build vulkan driver xvfb bench gpu-report gpu-static clean

help:
	@echo "make demo        build, make the built-in scene, train on it, evaluate and render it"
	@echo "make check       formatting, lints and the tests that need no GPU: under two minutes, once built"
	@echo "make lint        formatting, lints of every set of features, documentation"
	@echo "make test        formatting, lints and all tests of the default features"
	@echo "make test-tools  tests with ffmpeg, chromium and PyTorch, which it installs where they are missing"
	@echo "make robustness  a thousand damaged inputs and fifty kills, of which make test has a few"
	@echo "make build       the release binary: $(KILN)"
	@echo "make bench       time every stage on this machine"
	@echo "make gpu-report  figures of this machine's GPU, into gpu-report/"
	@echo "make vulkan      install a software Vulkan driver if there is none (Linux)"

vulkan:
	@KILN_INSTALL=1 .ci/install-vulkan.sh

# As vulkan, but ask before anything is installed.
driver:
	@.ci/install-vulkan.sh

build:
	$(CARGO) build --release --locked

demo: driver build
	$(KILN) demo --out demo

# All targets, the builds with fewer features, which must do without the dependencies of the omitted ones, and the docs.
lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --no-default-features --features cli --lib --bins -- -D warnings
	$(CARGO) clippy --locked --no-default-features --lib -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

check: lint
	KILN_REQUIRE_GPU= $(CARGO) test --locked --lib --test dataset --test reference --test report --test structure \
		--test tensorboard

# With KILN_REQUIRE_WINDOW=1 the window is always tested, on a virtual X server that is installed if it is missing;
# otherwise only if there is one.
xvfb:
	@.ci/install-xvfb.sh

# The GPU tests run in one process, so that each shader is compiled once. Drivers compile a shader on one core, so these
# tests run concurrently with most others, and their output is printed after theirs. Mesa's software driver compiles their
# shaders without optimisation, since each runs only a few times; those of the other tests it optimises.
# The tests are compiled by clippy, which lints all targets on the way.
test test-tools: export RUSTC_WORKSPACE_WRAPPER := $(CURDIR)/.ci/clippy-rustc.sh
ALL_TESTS := $(basename $(notdir $(wildcard tests/*.rs))) $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs))
test: driver xvfb
	$(CARGO) fmt --check
	$(CARGO) test --locked --no-run
	@GALLIVM_PERF=nopt $(CARGO) test --locked --test gpu > target/gpu-tests.log 2>&1 & gpu=$$!; \
	$(CARGO) test --locked --lib $(patsubst %,--test %,$(filter-out gpu viewer,$(ALL_TESTS))); others=$$?; \
	$(CARGO) test --locked --test viewer; window=$$?; \
	$(CARGO) test --locked --doc; doc=$$?; \
	wait $$gpu; kernels=$$?; \
	cat target/gpu-tests.log; \
	exit $$((others + window + doc + kernels))

# Tests that use large third-party programs; make test skips them where those are missing, and says so.
test-tools: driver
	python=$$(.ci/install-tools.sh target/tools) && \
	KILN_PYTHON=$$(command -v "$$python") \
	KILN_REQUIRE_FFMPEG=1 KILN_REQUIRE_CHROMIUM=1 KILN_REQUIRE_PYTORCH=1 KILN_REQUIRE_COLMAP=1 \
	sh -c '$(CARGO) test --locked --test cli -- --include-ignored ffmpeg pytorch colmap an_interrupted_rendering readme && \
		$(CARGO) test --locked --test report --test shaders -- --include-ignored browser'

# KILN_SEED=N changes the seed, KILN_CASE=N repeats one case and keeps its files.
robustness: driver
	KILN_CASES=1000 KILN_KILLS=50 $(CARGO) test --locked --test robustness -- --nocapture

bench: driver build
	$(KILN) bench

# What AMD's compilers, which Mesa has, make of the kernels, without a card: written to docs/gpu-static.md.
STATIC := tools/gpu-static/Cargo.toml
ICD := /usr/share/vulkan/icd.d
gpu-static: driver
	$(CARGO) fmt --check --manifest-path $(STATIC)
	$(CARGO) clippy --locked --release --manifest-path $(STATIC) --target-dir target -- -D warnings
	$(CARGO) build --locked --release --manifest-path $(STATIC) --target-dir target
	target/release/gpu-static --heading > target/gpu-static.md
	for family in navi31 vega10; do \
		RADV_FORCE_FAMILY=$$family KILN_DEVICE=llvmpipe VK_LOADER_LAYERS_DISABLE='~all~' \
		VK_DRIVER_FILES=$(ICD)/lvp_icd.json:$(ICD)/radeon_icd.json \
		target/release/gpu-static >> target/gpu-static.md 2> target/gpu-static.log || { cat target/gpu-static.log; exit 1; }; \
	done
	mv target/gpu-static.md docs/gpu-static.md

gpu-report: build
	.ci/gpu-report.sh $(KILN) gpu-report

clean:
	$(CARGO) clean
	rm -rf demo gpu-report
