# syntax=docker/dockerfile:1
# GPU (default):  docker build -t octoscale .
# CPU:            docker build -t octoscale:cpu --build-arg BASE=python:3.12.12-slim-bookworm \
#                     --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu .
ARG BASE=nvidia/cuda:13.0.2-runtime-ubuntu24.04
FROM ${BASE}

# The CUDA base has no Python; the slim Python base has no need of one. On a GPU, Triton compiles the launcher
# of the loss's kernel when it first runs: that takes a C compiler and Python's headers.
RUN command -v python3 >/dev/null || (apt-get update \
    && apt-get install -y --no-install-recommends g++ python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*)

RUN python3 -m venv /opt/octoscale && useradd --create-home --uid 10001 octoscale
ENV PATH=/opt/octoscale/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1

# PyTorch first: the largest layer, and the one that changes least.
ARG TORCH=2.13.0
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
RUN pip install --index-url ${TORCH_INDEX} --extra-index-url https://pypi.org/simple torch==${TORCH}

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY octoscale ./octoscale
RUN pip install '.[cluster,s3]'
COPY configs /opt/octoscale/configs

USER octoscale
WORKDIR /home/octoscale
ENTRYPOINT ["octoscale"]
CMD ["--help"]
