# Nomaly in a container; see docs/start/install.md.
#   docker build -t nomaly .                             CPU
#   docker build -t nomaly --build-arg BACKEND=cu128 .   CUDA
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" nomaly detect ra_chest films --output results
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /sources
COPY setup.py setup.cfg pyproject.toml README.md LICENSE ./
COPY custom custom
COPY nomaly nomaly
COPY bundles bundles
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:${PYTHON}-slim
# Builds of PyTorch to install: cpu, cu128 or another one that uv knows.
ARG BACKEND=cpu
COPY requirements.txt /tmp/
COPY --from=wheel /wheel /tmp/wheel
RUN pip install --no-cache-dir uv==0.13.9 \
    && uv pip install --system --no-cache --torch-backend "${BACKEND}" -r /tmp/requirements.txt /tmp/wheel/*.whl \
    && pip uninstall --yes uv \
    && rm -r /tmp/requirements.txt /tmp/wheel
# A user without an account, as of --user, has no home folder.
ENV HOME=/tmp PYTHONUNBUFFERED=1
WORKDIR /work
USER 1000
ENTRYPOINT ["nomaly"]
CMD ["--help"]
