#!/bin/sh
# Builds the npm package `wgpu-optim-web` into crates/web/dist: an ES module, its two WebAssembly modules, TypeScript's types and a README.
#
#   sh crates/web/build.sh
#
# Needs cargo, node and npm. The script fetches what else it needs: a compiler for wasm32 (see tests/wasm_toolchain.sh), wasm-bindgen's
# command line in the version of Cargo.lock (under target/), and TypeScript (npm, under crates/web/node_modules). wasm-opt does not help:
# its modules are a tenth smaller, but larger once they are compressed.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/../.."
mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(CDPATH='' cd -- "${CARGO_TARGET_DIR:-target}" && pwd)
web=crates/web
dist=$web/dist
export CARGO_INCREMENTAL=0
. tests/wasm_toolchain.sh

die() {
    echo "build: $*" >&2
    exit 1
}

command -v npm >/dev/null || die 'needs node and npm'
wasm_toolchain || die "$why_not"

# The standard library is built from source too, for its size: without the texts of its panics, a module is a fifth smaller. A panic is a
# defect of this crate; the build with debug assertions (cargo build --target wasm32-unknown-unknown) has the texts.
flags="-Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size"
if [ -n "$from_source" ] || rustup component add rust-src; then
    export RUSTC_BOOTSTRAP=1
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="${CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS:-} -Zunstable-options -Cpanic=immediate-abort"
else
    echo 'build: no source of the standard library here, the modules are larger than they could be'
    flags=
fi

version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p;}' Cargo.lock)
bindgen=$target/web-tools/bin/wasm-bindgen
if [ "$("$bindgen" --version 2>/dev/null)" != "wasm-bindgen $version" ]; then
    # The tool runs here, whatever compiles the modules.
    (unset RUSTC RUSTC_BOOTSTRAP LD_LIBRARY_PATH && cargo install wasm-bindgen-cli --version "$version" --root "$target/web-tools" --force)
fi
[ -d $web/node_modules/typescript ] || npm --prefix $web ci --ignore-scripts --no-audit --no-fund

module() { # NAME FEATURES…
    name=$1
    shift
    # shellcheck disable=SC2086 # several flags
    cargo build -p wgpu-optim-web --profile web --target $wasm --target-dir "$target/wasm-web" $flags "$@"
    "$bindgen" --target web --remove-name-section --out-dir "$dist/$name" "$target/wasm-web/$wasm/web/wgpu_optim_web.wasm"
    bytes=$dist/$name/wgpu_optim_web_bg.wasm
    echo "build: $name $(wc -c <"$bytes") bytes, $(gzip -9c "$bytes" | wc -c) gzipped"
}

rm -rf "$dist"
mkdir -p "$dist"
module core
module full --features full
node $web/node_modules/typescript/bin/tsc -p $web/js/tsconfig.json
node $web/node_modules/typescript/bin/tsc -p $web/examples/tsconfig.json
cp $web/js/package.json $web/README.md LICENSE-APACHE LICENSE-MIT "$dist"
echo "build: the package is in $dist"
