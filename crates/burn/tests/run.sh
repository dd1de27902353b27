#!/bin/sh
# Builds and tests the adapter for Burn: a stage of `.ci/run` of its own, because Burn takes longer to build than everything else.
#
#   sh crates/burn/tests/run.sh
#
# It needs a Vulkan driver; tests/run.sh installs one where there is none. It runs the tests with Burn's fusion and, of those, a part without it,
# and then both examples for a few epochs, from the start and resumed.
set -eu
cd "$(dirname "$0")/../../.."
export CARGO_INCREMENTAL=0
lavapipe=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json
if [ -z "${VK_DRIVER_FILES:-}" ] && [ -e "$lavapipe" ]; then
    export VK_DRIVER_FILES=$lavapipe
fi
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}
# Without debug information and optimization Burn builds in a fifth of the time.
set -- --profile dev --config profile.dev.debug=false -p wgpu-optim-burn
cargo test "$@" --test burn -- --test-threads 2
cargo test "$@" --doc
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cargo run "$@" --example digits -- --epochs 2 --folder "$folder"
cargo run "$@" --example digits -- --epochs 3 --folder "$folder" --resume
cargo run "$@" --example characters -- --epochs 1 --storage f32,8bit --folder "$folder"
cargo run "$@" --example characters -- --epochs 2 --storage f32,8bit --folder "$folder" --resume
cargo test "$@" --no-default-features --test burn -- --test-threads 2 equal:: values::
