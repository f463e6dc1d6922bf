#!/bin/sh
# Take the server out of NVIDIA's Python package, and make of the rest a Python with numpy 1 over the shared packages.
# Usage: arrange.sh VENV DIST
set -eu
venv=$1 dist=$2
packages=$venv/lib/python3.11/site-packages

# The server finds its libraries relative to itself (RPATH), so the two folders keep their places to each other.
mkdir -p "$dist/pytriton/tritonserver"
for part in bin backends caches; do
    mv "$packages/pytriton/tritonserver/$part" "$dist/pytriton/tritonserver/"
done
mv "$packages/nvidia_pytriton.libs" "$dist/"
cp "$packages"/pytriton/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub "$dist/pytriton/tritonserver/backends/python/"
chmod 0755 "$dist"/pytriton/tritonserver/bin/* "$dist/pytriton/tritonserver/backends/python/triton_python_backend_stub"
rm -rf "$packages"/pytriton "$packages"/nvidia_pytriton-*

# This Triton dies of the first string input under numpy 2: numpy 1 comes first, all else from the shared packages. Our
# own code is named here too, since the backend ignores PYTHONPATH.
printf "%s\n" /opt/venv/lib/python3.11/site-packages /opt/anneal > "$packages/shared.pth"
