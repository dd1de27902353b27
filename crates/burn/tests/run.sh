#!/bin/sh
# Builds and tests the adapter for Burn: a stage of `.ci/run` of its own, because Burn takes longer to build than everything else.
#
#   sh crates/burn/tests/run.sh
#
# It needs a Vulkan driver; tests/run.sh installs one where there is none. It runs the tests with Burn's fusion and, of those, a part on
# SwiftShader and a part without fusion, and both examples for a few epochs, from the start and resumed.
#
# Environment variables: VK_DRIVER_FILES for the first driver; WGPU_OPTIM_SWIFTSHADER=0 turns off the second, =PATH names the
# vk_swiftshader_icd.json to use.
set -eu
cd "$(dirname "$0")/../../.."
export CARGO_INCREMENTAL=0
lavapipe=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json
if [ -z "${VK_DRIVER_FILES:-}" ] && [ -e "$lavapipe" ]; then
    export VK_DRIVER_FILES=$lavapipe
fi
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp}

# Sets `swiftshader` to the driver's description; empty where there is none. tests/run.sh unpacks it into the first of these folders.
find_swiftshader() {
    swiftshader=${WGPU_OPTIM_SWIFTSHADER:-1}
    [ "$swiftshader" = 1 ] || return 0
    for place in "$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/swiftshader" /usr/lib/chromium /usr/lib/chromium-browser /usr/lib64/chromium-browser; do
        swiftshader=$place/vk_swiftshader_icd.json
        if [ -e "$swiftshader" ]; then return; fi
    done
    swiftshader=0
}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Without debug information and optimization Burn builds in a fifth of the time.
set -- --profile dev --config profile.dev.debug=false -p wgpu-optim-burn
cargo test "$@" --test burn -- --test-threads 2
find_swiftshader
if [ "$swiftshader" = 0 ]; then
    echo 'SwiftShader: not run (there is none; tests/run.sh unpacks one, or WGPU_OPTIM_SWIFTSHADER turned it off)'
else
    # Burn's threads use the driver until the process ends, and SwiftShader may crash there. The verdict of the tests counts.
    VK_DRIVER_FILES=$swiftshader VK_ICD_FILENAMES=$swiftshader \
        cargo test "$@" --test burn -- --test-threads 2 equal:: values:: >"$folder/swiftshader" || :
    cat "$folder/swiftshader"
    grep -q '^test result: ok' "$folder/swiftshader"
fi
cargo test "$@" --doc
cargo run "$@" --example digits -- --epochs 2 --folder "$folder"
cargo run "$@" --example digits -- --epochs 3 --folder "$folder" --resume
cargo run "$@" --example characters -- --epochs 1 --storage f32,8bit --folder "$folder"
cargo run "$@" --example characters -- --epochs 2 --storage f32,8bit --folder "$folder" --resume
cargo test "$@" --no-default-features --test burn -- --test-threads 2 equal:: values::
