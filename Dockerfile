# syntax=docker/dockerfile:1
# GPU (default):  docker build -t octoscale .
# CPU:            docker build -t octoscale:cpu --build-arg BASE=python:3.12.12-slim-bookworm \
#                     --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
# The steps are explained in docs/cluster.md; tests/integration/test_dockerfile.py runs them without Docker.
ARG BASE=nvidia/cuda:13.0.2-runtime-ubuntu24.04
FROM ${BASE}

# The CUDA base has no Python; the slim Python base has no need of one. On a GPU, Triton compiles the launcher
# of the loss's kernel when it first runs: that takes a C compiler and Python's headers.
RUN command -v python3 >/dev/null || (apt-get update \
    && apt-get install -y --no-install-recommends g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*)

# Everything is installed into one environment, by root; the user that runs it cannot change it.
RUN python3 -m venv /opt/octoscale
RUN useradd --create-home --uid 10001 octoscale
ENV PATH=/opt/octoscale/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1

# PyTorch first: the largest layer, and the one that changes least.
ARG TORCH=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
ARG PYPI=https://pypi.org/simple
RUN pip install --index-url ${TORCH_INDEX} --extra-index-url ${PYPI} torch==${TORCH}

# Ray and DeepSpeed for clusters, s3fs for s3:// URLs.
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY octoscale ./octoscale
RUN pip install --index-url ${PYPI} '.[cluster,s3]'
COPY configs /opt/octoscale/configs

# The number is the one that the manifests in cluster/kuberay name.
USER octoscale
WORKDIR /home/octoscale
ENTRYPOINT ["octoscale"]
CMD ["--help"]
