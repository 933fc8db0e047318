/** Averages over the trials of each image, where the store has them: by image, and by voxel. */

import { NAMES } from "../names";
import type { Responses } from "./responses";
import { chunksOf, sorted } from "./responses";
import type { Subject } from "./subject";

const PART = NAMES.parts.averages;
const { mean, mean_by_voxel, noise, image_name, n_trials } = NAMES.averages;
const CHUNKS_AT_ONCE = 32; // of 0.4 MB each

/** Why the store's averages cannot be shown, and what would help; undefined if they can. */
export function lackOfAverages({ group, sessions }: Subject): string | undefined {
  if (!group.has(PART)) {
    return `The store has no averages of all images, which the whole brain is drawn from: laion-zarr convert --parts ${PART}.`;
  }
  const sources = group.parts[PART]!.sources;
  const current = sessions.every((name) => sources[name]?.["crc32"] === group.fingerprint(name));
  if (current && Object.keys(sources).length === sessions.length) return undefined;
  return `The averages of all images were made from other betas than the store has now: laion-zarr convert --parts ${PART}.`;
}

/** Response of each stored voxel to one image, or undefined if there are no averages of it. */
export async function readAverage(subject: Subject, image: string): Promise<Float32Array | undefined> {
  const { group } = subject;
  const row = (await group.text(PART, image_name)).indexOf(image);
  if (row < 0) return undefined;
  return (await (await group.array(PART, mean)).rows(row, row + 1)) as Float32Array;
}

/** Whether averages can be read voxel by voxel. */
export function hasVoxels(subject: Subject): boolean {
  const there = [mean_by_voxel, noise].every((name) => subject.group.has(PART, name));
  return there && lackOfAverages(subject) === undefined;
}

/** Bytes that `readVoxels` decodes. */
export async function sizeOfVoxels({ group }: Subject, rows: Int32Array): Promise<number> {
  const array = await group.array(PART, mean_by_voxel);
  return chunksOf(rows, array.chunkRows).length * array.chunkRows * array.shape[1]! * 4;
}

/**
 * Responses of voxels to all images. The errors of several voxels are the mean of theirs: what noise
 * they share stays, what they do not share averages out, so the true ones are not larger.
 */
export async function readVoxels(
  subject: Subject,
  rows: Int32Array,
  options: { onProgress?: (share: number) => void; signal?: AbortSignal } = {},
): Promise<Responses> {
  const { group } = subject;
  const [images, counts, means, noises] = await Promise.all([
    group.text(PART, image_name), group.values(PART, n_trials), group.array(PART, mean_by_voxel), group.array(PART, noise),
  ]);
  const sums = new Float64Array(images.length);
  const known = new Int32Array(images.length);
  const chunks = chunksOf(rows, means.chunkRows);
  for (let first = 0; first < chunks.length; first += CHUNKS_AT_ONCE) {
    const some = chunks.slice(first, first + CHUNKS_AT_ONCE);
    const found = await Promise.all(some.map((chunk) => means.chunk([chunk, 0])));
    options.signal?.throwIfAborted();
    some.forEach((chunk, n) => {
      for (const row of rows.filter((one) => Math.floor(one / means.chunkRows) === chunk)) {
        const start = (row - chunk * means.chunkRows) * images.length;
        const own = found[n]!.subarray(start, start + images.length);
        for (let code = 0; code < images.length; code++) {
          const value = own[code]!;
          if (value === value) (sums[code]! += value), (known[code]! += 1);
        }
      }
    });
    options.onProgress?.(Math.min(1, (first + CHUNKS_AT_ONCE) / chunks.length));
  }
  const values = sums.map((sum, code) => sum / known[code]!);
  const noiseOf = await noiseOfVoxels(noises, rows);
  const error = Float64Array.from(counts, (n) => noiseOf / Math.sqrt(n));
  const many = rows.length > 1;
  return { images, counts: Int32Array.from(counts), mean: values, error, atMost: many, order: sorted(values), nVoxels: rows.length, toImage: undefined };
}

/** Mean of the noise of voxels. */
async function noiseOfVoxels(array: Awaited<ReturnType<Subject["group"]["array"]>>, rows: Int32Array): Promise<number> {
  const chunks = chunksOf(rows, array.chunkRows);
  const found = new Map(await Promise.all(chunks.map(async (chunk) => [chunk, await array.chunk([chunk])] as const)));
  const own = Array.from(rows, (row) => found.get(Math.floor(row / array.chunkRows))![row % array.chunkRows]!).filter(Number.isFinite);
  return own.reduce((sum, value) => sum + value, 0) / own.length;
}
