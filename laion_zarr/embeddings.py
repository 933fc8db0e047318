"""Public import path of embeddings of the stimuli; see `laion_zarr.stimuli.embeddings`."""

from laion_zarr.stimuli.embeddings import Embeddings, SubjectEmbeddings, load_embeddings

__all__ = ["Embeddings", "SubjectEmbeddings", "load_embeddings"]
