#!/bin/sh
# Type-checks the library for the browser: wasm32-unknown-unknown, wgpu with WebGPU only. First the library without features, then with
# checkpoints, rules of one's own and the tools.
#
#   sh tests/wasm.sh
#
# See tests/wasm_toolchain.sh for the compiler. If there is none, the script says so and succeeds.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(CDPATH='' cd -- "${CARGO_TARGET_DIR:-target}" && pwd)
. tests/wasm_toolchain.sh

if ! wasm_toolchain; then
    echo "wasm32: not checked ($why_not)"
    exit 0
fi
for features in wgpu/webgpu tools,wgpu/webgpu; do
    echo "wasm32: cargo check of $features with $compiler"
    # shellcheck disable=SC2086 # no flag or one
    cargo check -p wgpu-optim --lib --no-default-features --features $features --target $wasm --target-dir "$target/wasm" $from_source
done
echo 'wasm32: passed'
