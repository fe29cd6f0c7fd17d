#!/bin/sh
# Runs every fuzz target for so many seconds (60 where nothing is said), and fails when one of them crashes.
#
#   cargo install cargo-fuzz --locked
#   fuzz/run-all.sh 60
#
# On the stable toolchain: without a sanitizer, since what is looked for are panics.
set -eu

seconds=${1:-60}
cd "$(dirname "$0")/.."
export RUSTUP_TOOLCHAIN="${RUSTUP_TOOLCHAIN:-stable}"

failed=
for target in $(cargo fuzz list); do
    mkdir -p "fuzz/corpus/$target"
    # What is found goes to the first folder; the seeds stay as they are.
    set -- "fuzz/corpus/$target" "fuzz/seeds/$target"
    if [ "$target" = configuration ]; then set -- "$@" conf -- -dict=fuzz/configuration.dict; else set -- "$@" --; fi
    echo "== $target"
    cargo fuzz run --sanitizer none "$target" "$@" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 -verbosity=0 -print_final_stats=1 ||
        failed="$failed $target"
done

if [ -n "$failed" ]; then
    echo "crashed:$failed; the inputs are in fuzz/artifacts" >&2
    exit 1
fi
