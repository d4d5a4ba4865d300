# Panoptic-DeepLab in a container.
#
#   docker build -t panoptic-deeplab .
#   docker run --rm -v "$PWD:/data" panoptic-deeplab predict photo.jpg --model runs/mine/best --output predictions
#
# The default build of PyTorch runs on CPUs and, with `docker run --gpus all`, on NVIDIA GPUs; it is large. For one that is
# small (CPU only) or for another version of CUDA, give pip the options that PyTorch's "Get started" page names:
#
#   docker build --build-arg TORCH_FLAGS="--index-url ..." -t panoptic-deeplab .
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

ARG TORCH_FLAGS=""
# Extras of the package: what is not needed here makes the image smaller.
ARG EXTRAS="train,eval,offline-backbone"

WORKDIR /opt/panoptic-deeplab
RUN python -m pip install --no-cache-dir ${TORCH_FLAGS} torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m pip install --no-cache-dir ".[${EXTRAS}]"

RUN useradd --create-home user
USER user
WORKDIR /data
ENTRYPOINT ["panoptic-deeplab"]
CMD ["--help"]
