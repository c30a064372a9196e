# The image of a student's server on a JupyterHub; benchmarks/JUPYTERHUB.md says how it is used.
FROM python:3.12-slim

# Zero to JupyterHub starts servers as user 1000 and mounts their storage at /home/jovyan.
RUN useradd --create-home --uid 1000 jovyan

# It belongs to root, so students read the course and cannot change it.
WORKDIR /opt/course
COPY pyproject.toml requirements.txt LICENSE LICENSE-CONTENT README.md ./
COPY course_utils course_utils
COPY notebooks notebooks

# The hub's own version: see the page of its administrator, or `jupyterhub --version` there.
ARG JUPYTERHUB_VERSION=5.4.5
RUN python -m pip install --no-cache-dir -r requirements.txt jupyterhub==$JUPYTERHUB_VERSION

USER jovyan
WORKDIR /home/jovyan
CMD ["jupyterhub-singleuser"]
