#!/bin/sh
# Install hash-locked Python packages into a virtual environment, with uv, which does not stay in the image.
# Usage, in a Containerfile: install-packages.sh VENV REQUIREMENTS [OPTION...]   (options are those of `uv pip install`)
set -eu
venv=$1 requirements=$2
shift 2

python3 -m venv /tmp/uv
/tmp/uv/bin/pip install --quiet --no-cache-dir --require-hashes --requirement "$(dirname "$0")/uv.txt"
test -d "$venv" || python3 -m venv --without-pip "$venv"

# Bytecode is compiled here because a pod's root file system is read-only; it is bound to nothing that a change of
# file times in transit could invalidate.
# The cache is the mounted one whatever HOME is: below a HOME of /tmp it would stay in the layer.
PYC_INVALIDATION_MODE=UNCHECKED_HASH UV_LINK_MODE=copy UV_SYSTEM_CERTS=1 UV_CACHE_DIR=/root/.cache/uv \
    /tmp/uv/bin/uv pip install --python "$venv" --require-hashes --compile-bytecode --requirement "$requirements" "$@"
rm -rf /tmp/uv
