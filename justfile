# One command for each habit. `just` lists them.

default:
    @just --list --unsorted

# Format, lints, licences, layers, unit tests: under a minute once built.
check:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings
    command -v cargo-deny >/dev/null && cargo deny --offline check bans licenses sources || echo "cargo-deny is not installed: cargo install --locked cargo-deny"
    cargo test --package garth --lib --test house --test plans
    command -v c++ >/dev/null && RUSTFLAGS="--cfg fuzzing" cargo check --quiet --manifest-path tests/fuzz/Cargo.toml || echo "the fuzz targets do not compile, or there is no C++ compiler for libfuzzer"

# Everything CI runs: unit tests and the black-box suite with real daemons. Needs root.
test:
    tests/run

# The kill-point test at every point, not a sample.
killpoints:
    cargo build --release
    KILLPOINTS=all cargo test --package garth-tests --test killpoints --test oci_killpoints -- --nocapture

# Rates of sandboxes and of limits over a real link with tight bounds, 200 killed limiters, and the AWS
# CLI. Needs root, a quiet machine, and for the last a package index.
limits:
    cargo build --release
    RATES=all cargo test --package garth-tests --test rate -- --nocapture --test-threads 1
    LIMIT=all cargo test --package garth-tests --test limit -- --nocapture --test-threads 1
    tests/limit-aws

# The shim: a thousand containers one after the other, ten thousand that print a word, a hundred kills. Needs root and
# containerd.
shim:
    cargo build --release --package garth --package containerd-shim-garth
    SHIM=$PWD/target/x86_64-unknown-linux-gnu/release/containerd-shim-garth-v1 CYCLES=1000 RUNS=10000 ROUNDS=100 VERBOSE=1 \
        tests/clients/shim.sh $PWD/target/x86_64-unknown-linux-gnu/release/garth

# ctr and CRI with containerd 1.7 and 2.x, from later releases of Debian. Needs root and a network.
containerds:
    cargo build --release --package garth --package containerd-shim-garth
    SHIM=$PWD/target/x86_64-unknown-linux-gnu/release/containerd-shim-garth-v1 \
        tests/clients/containerds $PWD/target/x86_64-unknown-linux-gnu/release/garth

# A stock Debian 12 with systemd, booted in qemu: units, user sessions, podman, daemons, kills. Before each
# release. Needs root, debootstrap, qemu-system-x86 and 6 GB in the cache; `just vm units` runs one file.
vm *cases:
    tests/vm/run {{cases}}

# RAID volumes over iSCSI on a kernel that has md, booted in qemu: servers die and return, everything is
# killed. Ends with a line of figures; `just raid raid-repair` runs one file. Needs root.
raid *cases:
    tests/guest/run {{cases}}

# Build for aarch64, and try it on Debian's arm64 kernel in qemu. Needs a cross compiler and qemu-system-arm.
aarch64:
    tests/aarch64/run

# The tables of docs/benchmarks.md. Needs root, bubblewrap and a quiet machine.
bench:
    tests/bench

# Fuzz the parsers: flags, seccomp, config, host_files, unit, volume, shim_bootstrap, shim_request (nightly Rust, cargo-fuzz). Without a sanitizer it is
# six times as fast: there is no unsafe code in them.
fuzz target="flags" seconds="60" sanitizer="none":
    cd tests/fuzz && cargo +nightly fuzz run --fuzz-dir . --sanitizer {{sanitizer}} {{target}} -- \
        -max_total_time={{seconds}} -max_len=32768 -timeout=10 -rss_limit_mb=2048

# Regenerate what is generated and checked for drift.
generate:
    UPDATE=1 cargo test --package garth --lib seccomp
    UPDATE=1 cargo test --package garth --test plans

# Static, stripped binaries.
release:
    cargo build --release --package garth --package containerd-shim-garth
    ls -l target/x86_64-unknown-linux-gnu/release/garth target/x86_64-unknown-linux-gnu/release/containerd-shim-garth-v1
