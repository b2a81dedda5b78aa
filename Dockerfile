# syntax=docker/dockerfile:1
# One image for all processes of an installation; deploy/compose.yml says which process is started how.
# docs/deployment.md tells how it's built. The base image is told from outside, since every house has its own mirror;
# it must be Linux on x86-64 with glibc 2.28 or newer and CPython 3.11 to 3.13, with pip and venv.
#   docker build --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm --tag onebook:0.1.0 .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS built
WORKDIR /opt/onebook
ENV PYTHONDONTWRITEBYTECODE=1
# The lock first: while it stays as it is, this layer does too.
COPY bootstrap.py pyproject.toml requirements.txt README.md LICENSE ./
RUN python3 bootstrap.py --service --packages
COPY . .
RUN python3 bootstrap.py --service \
    && .venv/bin/python -m compileall -q -j 0 base db ledger exchange tariff fiat custody chain wallet treasury \
       identity wiring api worker bench railsim cli .venv/lib

FROM ${PYTHON_IMAGE}
# Numbers, not names, are what volumes and the signer's --allow-uid go by.
RUN groupadd --gid 10001 onebook && groupadd --gid 10002 onebook-signer \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/onebook --no-create-home --shell /usr/sbin/nologin onebook \
    && useradd --uid 10002 --gid 10002 --home-dir /var/lib/onebook-signer --no-create-home \
       --shell /usr/sbin/nologin onebook-signer \
    && install -d -m 0700 -o 10001 -g 10001 /var/lib/onebook /var/lib/onebook/solvency \
    && install -d -m 0700 -o 10002 -g 10002 /var/lib/onebook-signer \
    && install -d -m 0755 -o 10002 -g 10002 /run/onebook-signer \
    && install -d -m 0755 /run/secrets
COPY --from=built /opt/onebook /opt/onebook
COPY deploy/hand-over /usr/local/bin/hand-over
WORKDIR /opt/onebook
ENV PATH=/opt/onebook/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ONEBOOK_CONFIG=/var/lib/onebook/onebook.toml \
    ONEBOOK_SIGNER_SOCKET=/run/onebook-signer/signer.sock \
    CREDENTIALS_DIRECTORY=/run/secrets
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health/live', timeout=4)"]
CMD ["python", "-m", "api.serve"]
