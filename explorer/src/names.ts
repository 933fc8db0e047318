// Made from laion_zarr/store/schema by explorer/names.py ('make explorer'); do not edit.
export const NAMES = {
  "schemaVersion": 1,
  "rootAttribute": "laion_zarr",
  "manifest": "manifest.json",
  "store": "laion-fmri.zarr",
  "allSessionsCeiling": "NoiseceilingAllrep",
  "groups": {
    "stimuli": "stimuli",
    "splits": "splits"
  },
  "parts": {
    "voxels": "voxels",
    "trials": "trials",
    "anatomy": "anatomy",
    "surfaces": "surfaces",
    "localizers": "localizers",
    "geometry": "geometry",
    "averages": "averages",
    "metadata": "metadata",
    "images": "images",
    "embeddings": "embeddings",
    "segmentations": "segmentations",
    "captions": "captions",
    "membership": "membership"
  },
  "chunkTable": "_chunks",
  "dims": {
    "voxel": "voxel",
    "image": "image"
  },
  "maps": {
    "session_noise_ceiling": {
      "description": "noise ceiling",
      "units": "percent"
    },
    "r2": {
      "description": "GLMsingle R²",
      "units": "percent"
    },
    "hrf_index": {
      "description": "GLMsingle HRF of the library, 0-19",
      "units": ""
    },
    "fracridge": {
      "description": "GLMsingle ridge fraction",
      "units": ""
    }
  },
  "mapsPart": "maps/",
  "embeddingsPart": "embeddings/",
  "voxels": {
    "voxel": "voxel",
    "i": "i",
    "j": "j",
    "k": "k",
    "x": "x",
    "y": "y",
    "z": "z",
    "in_anatomical": "in_anatomical",
    "in_rsquare": "in_rsquare",
    "roi": "roi",
    "category": "category",
    "roi_mask": "roi_mask",
    "nc": "nc",
    "noise_ceiling": "noise_ceiling"
  },
  "trials": {
    "trial": "trial",
    "session": "session",
    "run": "run",
    "beta_index": "beta_index",
    "session_trial": "session_trial",
    "image_name": "image_name",
    "unique_or_shared": "unique_or_shared",
    "repetition": "repetition",
    "stim_idx": "stim_idx"
  },
  "betas": "betas",
  "averages": {
    "mean": "mean",
    "mean_chunks": "mean_chunks",
    "mean_by_voxel": "mean_by_voxel",
    "mean_by_voxel_chunks": "mean_by_voxel_chunks",
    "noise": "noise",
    "noise_chunks": "noise_chunks",
    "voxel": "voxel",
    "image_name": "image_name",
    "n_trials": "n_trials"
  },
  "anatomy": {
    "t1w": "t1w",
    "t2w": "t2w",
    "brain_mask": "brain_mask",
    "brain_mask_full": "brain_mask_full"
  },
  "localizerMaps": {
    "1pt8": "1pt8/maps",
    "L": "hemi-L/maps",
    "R": "hemi-R/maps"
  },
  "mapLabels": "labels",
  "faces": {
    "L": "hemi-L/faces",
    "R": "hemi-R/faces"
  },
  "hemis": {
    "L": "hemi-L/",
    "R": "hemi-R/"
  },
  "toScanner": "to_scanner",
  "mesh": "mesh",
  "images": {
    "image_name": "image_name",
    "data": "data",
    "start": "start",
    "nbytes": "nbytes",
    "crc32": "crc32",
    "height": "height",
    "width": "width"
  },
  "embedding": "embedding",
  "embeddings": {
    "image_name": "image_name",
    "embedding_chunks": "embedding_chunks",
    "valid": "valid"
  },
  "segmentations": {
    "masks": "masks",
    "masks_chunks": "masks_chunks",
    "mask_row": "mask_row",
    "image_name": "image_name",
    "noun": "noun",
    "instance_id": "instance_id",
    "localized": "localized"
  },
  "captions": {
    "image_name": "image_name",
    "caption_idx": "caption_idx",
    "source": "source",
    "caption": "caption"
  },
  "splits": {
    "pool": "pool",
    "name": "name",
    "variant_id": "variant_id",
    "splitter": "splitter",
    "params": "params",
    "image_name": "image_name",
    "side": "side"
  },
  "license": "The stimulus images are under the LAION-fMRI Data Use Agreement (https://laion-fmri.hebartlab.com) and must not be passed on. For a store to be shared, leave them out: 'laion-zarr convert --parts' with all parts but images.",
  "oodTypes": [
    "cropped",
    "gabor",
    "gaudy",
    "illusion-classic",
    "illusion-natural",
    "relations",
    "selfmade",
    "shape",
    "unusual"
  ]
} as const;
