#!/bin/sh
# Builds the package (crates/web/build.sh) and tests it: first on Dawn in node, then in Chromium.
#
#   sh crates/web/tests/run.sh            # both
#   sh crates/web/tests/run.sh node       # without a browser
#   sh crates/web/tests/run.sh firefox    # the cases in Firefox, if there is one
#
# Environment: WEB_BUILD=0 tests the dist that is there; CHROMIUM and FIREFOX name the browsers; WEB_VERIFY the storages that `verify` runs
# in Chromium. The stages need Chromium's SwiftShader (Debian's packages chromium and chromium-common), which the script installs where it
# may. Without it the script fails. The screenshots of the page are in target/web-tests.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/../../.."
mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(CDPATH='' cd -- "${CARGO_TARGET_DIR:-target}" && pwd)
web=crates/web
files=$target/web-tests
stages=${1:-all}
chromium=${CHROMIUM:-/usr/bin/chromium}
mkdir -p "$files"

die() {
    echo "web: $*" >&2
    exit 1
}

find_swiftshader() {
    for json in "$target/swiftshader/vk_swiftshader_icd.json" "$(dirname -- "$(readlink -f "$chromium")")/vk_swiftshader_icd.json" \
        /usr/lib/chromium/vk_swiftshader_icd.json; do
        [ ! -f "$json" ] || { swiftshader=$json && return 0; }
    done
    return 1
}

if ! [ -x "$chromium" ] || ! find_swiftshader; then
    echo 'web: installing chromium'
    if [ "$(id -u)" -eq 0 ]; then
        apt-get update -qq && apt-get install -y -qq chromium || die 'chromium could not be installed'
    else
        sudo -n apt-get update -qq && sudo -n apt-get install -y -qq chromium || die 'needs chromium: sudo apt install chromium'
    fi
    find_swiftshader || die "no vk_swiftshader_icd.json beside $chromium"
fi

[ "${WEB_BUILD:-1}" = 0 ] || sh $web/build.sh
[ -f $web/dist/full/wgpu_optim_web_bg.wasm ] || die "there is no package in $web/dist: run  sh $web/build.sh"

# The modules must not grow unnoticed: gzipped bytes at most, a little above what was measured.
for limit in core=432000 full=1035000; do
    bytes=$(gzip -9c "$web/dist/${limit%=*}/wgpu_optim_web_bg.wasm" | wc -c)
    [ "$bytes" -le "${limit#*=}" ] || die "the module ${limit%=*} has $bytes bytes gzipped, at most ${limit#*=}"
done

# One driver for all: native, Dawn in node, Chromium.
export VK_DRIVER_FILES="$swiftshader" VK_ICD_FILENAMES="$swiftshader" XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$files}"

echo '##### web: the same on a native device'
# The same packages as the tests of the crate, so that nothing is built twice.
cargo build --release -p wgpu-optim -p wgpu-optim-checkout -p wgpu-optim-web --example parity
parity=$target/release/examples/parity
"$parity" "$files"
if [ "$stages" = firefox ]; then
    command -v "${FIREFOX:-firefox-esr}" >/dev/null || die 'not run: there is no firefox-esr'
    exec node $web/tests/firefox.mjs "$files"
fi

echo '##### web: every text'
rm -f "$files/texts.jsonl"
WGPU_OPTIM_TEXTS=$files/texts.jsonl cargo test --release --lib kernel::texts
echo '##### web: Dawn in node'
node $web/tests/node.mjs "$files" --texts "$files/texts.jsonl" --verify f32
"$parity" "$files" --resume

if [ "$stages" = all ]; then
    echo '##### web: Chromium'
    # shellcheck disable=SC2086 # a list
    node $web/tests/chromium.mjs "$files" --verify ${WEB_VERIFY:-f32 bf16-split bf16-sr,8bit}
    "$parity" "$files" --resume
fi
