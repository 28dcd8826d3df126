# The command `vitexco` in a container, for the CPU or for NVIDIA GPUs.
#
#   docker build --tag vitexco .
#   docker build --tag vitexco:cuda --build-arg REQUIREMENTS=requirements.txt .
#
# CUDA comes with JAX's wheels, so both start from the same small image. Files are
# exchanged through the folder /work:
#
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" vitexco \
#       --mode=colorize --video=grey.mp4 --reference=picture.jpg --output=colour.mp4
#
# and with GPUs `docker run --gpus=all ... vitexco:cuda ...`.
#
# The image contains x264 and x265 (GPL), which come with PyAV: before you pass it on,
# read "In a container" in BUILD.md.

FROM python:3.13-slim

ARG REQUIREMENTS=requirements-cpu.txt

WORKDIR /opt/vitexco
# What changes seldom comes first and is kept when only the code is new.
COPY requirements*.txt ./
RUN pip install --no-cache-dir --requirement "$REQUIREMENTS"
COPY . .
RUN pip install --no-cache-dir --no-deps .

# Any user may run it, whether the image knows them or not.
ENV HOME=/tmp
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["vitexco"]
