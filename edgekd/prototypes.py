"""What enrolling leaves behind: one vector for each class, in a file that a device can read."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd import files
from edgekd.errors import ModelError


@dataclass(frozen=True)
class Prototypes:
    """The mean embedding of each enrolled class, prepared for `head`.

    `vectors` is (classes, d); `model_sha256` names the one model file whose embeddings these are.
    """

    class_names: tuple[str, ...]
    vectors: NDArray[np.float64]
    head: str
    model_sha256: str

    def save(self, path: str | Path) -> None:
        """Write an .npz file, without pickles.

        Raises:
            StorageError: the file cannot be written.
        """
        stream = io.BytesIO()
        np.savez(
            stream,
            class_names=np.array(self.class_names),
            vectors=self.vectors,
            head=np.array(self.head),
            model_sha256=np.array(self.model_sha256),
        )
        files.write_bytes(Path(path), stream.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> Prototypes:
        """Read what `save` wrote.

        Raises:
            ModelError: the file is missing, damaged or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                names = tuple(str(name) for name in stored["class_names"])
                vectors = np.asarray(stored["vectors"], np.float64)
                head, model = str(stored["head"]), str(stored["model_sha256"])
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise ModelError(f"{path} is not a file of prototypes: {error}") from error
        if vectors.ndim != 2 or len(vectors) != len(names):
            raise ModelError(f"{path} has {len(names)} class names for vectors of shape {vectors.shape}")
        return cls(names, vectors, head, model)
