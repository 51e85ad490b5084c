# shellcheck shell=bash disable=SC2034
# Shared by the scripts of this folder; sourced, never run.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${MUNITFILTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/munitfilter}
# A Rust installed a moment ago is not on the path of shells that were open before.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
target=${CARGO_TARGET_DIR:-$root/target}

say() { printf '%s\n' "$*"; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Whether training in several processes can be built and started.
has_mpi() {
    command -v mpicc >/dev/null && command -v mpirun >/dev/null
}
