"""`python -m panoptic_deeplab`, which is what `torchrun -m panoptic_deeplab` starts in every process."""

from panoptic_deeplab.cli import main

if __name__ == "__main__":
    main()
