# The work of a day, one short recipe each. CI calls these and nothing else.
set positional-arguments

export PATH := env('HOME') / ".cargo/bin:" + justfile_directory() / ".venv/bin:" + env('PATH')

# What release builds are laid out by, once `just profile` has made it.
profile := justfile_directory() / "target/profile/protoplex.profdata"
layout := if path_exists(profile) == "true" { "CARGO_ENCODED_RUSTFLAGS='-Cprofile-use=" + profile + "'" } else { "" }
release := layout + " cargo build --release --package protoplex"

guests := "cargo run --quiet --manifest-path guests/Cargo.toml --package protoplex-guest-tool -- "

# List the recipes
[private]
default:
    @just --list --unsorted

# Install what building and `up` need; quick when it is all there
setup:
    ./.ci/setup

[private]
setup-tests:
    @./.ci/setup tests

# Build guests into builds/out: those named, those of a folder (`sample`), or all
build-guests *NAMES:
    @{{ guests }} build "$@"

# Build the program and the sample's guests, then run a Seed and nodes on this machine
up *ARGS: build (build-guests "sample")
    target/debug/protoplex up "$@"

# Watch the guests; rebuild and push what changes
dev *ARGS: build (build-guests "sample")
    target/debug/protoplex dev "$@"

# Run all tests; those of the data path once more without io_uring
test *ARGS: setup-tests build build-guests
    node --test tests/client/*.test.mjs
    cargo nextest run --config-file .ci/nextest.toml --workspace "$@"
    PROTOPLEX_IO_URING=0 cargo nextest run --config-file .ci/nextest.toml --package protoplex-server --package protoplex-upstream --package protoplex-http2
    PROTOPLEX_IO_URING=0 cargo nextest run --config-file .ci/nextest.toml --package protoplex-tests -E 'test(/^(cut|relaying|tunnels|undisturbed|slow)/)'

# Run the tests of one crate of the host, without guests: `just unit wire`
unit CRATE *ARGS: setup-tests
    cargo nextest run --config-file .ci/nextest.toml --package protoplex-"$@"

# Run all 517 cases of Autobahn against a live node and a proxy; some minutes
autobahn: setup-tests build build-guests
    AUTOBAHN=all cargo nextest run --config-file .ci/nextest.toml --package protoplex-tests -E 'test(autobahn)'

# Check documents, format, lints, docs, and dependencies: used, and of known licences and sources
check: setup-tests
    python3 docs/tables.py --check
    python3 docs/check.py
    cargo fmt --all --check
    cargo fmt --all --check --manifest-path guests/Cargo.toml
    cargo clippy --quiet --workspace --all-targets -- -D warnings
    @{{ guests }} clippy
    RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --quiet --workspace --no-deps --document-private-items
    cargo shear --locked --offline --deny-warnings
    cargo shear --locked --offline --deny-warnings guests
    cargo deny --offline check --hide-inclusion-graph licenses bans sources
    cargo deny --offline --manifest-path guests/Cargo.toml --config deny.toml check --hide-inclusion-graph licenses bans sources

# Measure against the peers, and keep the rows: all, or those named; with `--before FILE`, against an earlier build
bench *NAMES: setup-tests build-guests
    {{ release }} --package protoplex-tests --bins
    target/release/bench "$@"

# Count what a request allocates, with a program that is built for that
bench-allocations: setup-tests build-guests
    {{ release }} --package protoplex-tests --bins --features protoplex/count-allocations
    target/release/bench allocations

# Feed random bytes to a reader of them for so long; without a name, list them
fuzz TARGET="" SECONDS="60": setup-tests
    test -z "$1" || mkdir -p "fuzz/corpus/$1"
    if test -z "$1"; then cargo fuzz list --fuzz-dir fuzz; else cargo fuzz run --sanitizer none --fuzz-dir fuzz "$1" "fuzz/corpus/$1" "fuzz/seeds/$1" -- -max_total_time="$2" -max_len=4096; fi

# Profile the data path, by which `just dist` and `just bench` lay the program out from then on; half an hour on two cores
profile: setup-tests build-guests
    ./.ci/profile

# Build the program as nodes run it: target/dist/protoplex, and what a debugger reads beside it
dist:
    {{ release }}
    mkdir -p target/dist
    objcopy --only-keep-debug target/release/protoplex target/dist/protoplex.debug
    objcopy --strip-all target/release/protoplex target/dist/protoplex
    cd target/dist && objcopy --add-gnu-debuglink=protoplex.debug protoplex

[private]
build:
    cargo build --package protoplex
