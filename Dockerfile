# The command `vitexco` in a container, for the CPU or for NVIDIA GPUs.
#
#   docker build --tag vitexco .
#   docker build --tag vitexco:cuda --build-arg REQUIREMENTS=requirements.txt .
#
# CUDA comes with JAX's wheels, so both use the same small base image. The folder
# /work is for input and output files:
#
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" vitexco \
#       --mode=colorize --video=gray.mp4 --reference=picture.jpg --output=color.mp4
#
# With GPUs: `docker run --gpus=all ... vitexco:cuda ...`.
#
# The image contains x264 and x265 (GPL), which come with PyAV. Before you distribute
# it, read "In a container" in BUILD.md.

FROM python:3.13-slim

ARG REQUIREMENTS=requirements/cpu.txt

WORKDIR /opt/vitexco
# Requirements rarely change, so their layer comes first and stays cached.
COPY requirements.txt ./
COPY requirements requirements/
RUN pip install --no-cache-dir --requirement "$REQUIREMENTS"
COPY . .
RUN pip install --no-cache-dir --no-deps .

# Any user ID can run the image.
ENV HOME=/tmp
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["vitexco"]
