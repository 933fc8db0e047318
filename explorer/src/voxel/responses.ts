/** Responses to images: betas z-scored per voxel and session, averaged over the image's trials. */

import { NAMES } from "../names";
import type { Numbers } from "../store/store";
import type { Subject, Trials } from "./subject";

export type Responses = {
  images: string[];
  counts: Int32Array;
  /** Mean over voxels and trials, in standard deviations; NaN where no voxel has a value. */
  mean: Float64Array;
  /** Standard error of each mean, from what repeats of an image differ by. */
  error: Float64Array;
  /** Whether the standard errors are no larger than that, see `readVoxels`. */
  atMost: boolean;
  /** Images, the strongest response first; without those that have none. */
  order: Int32Array;
  nVoxels: number;
  /** Response of each voxel to the image that was asked for, and the voxels' rows. */
  toImage: { order: Int32Array; values: Float32Array } | undefined;
};

// Chunks of one session that are read together: adjacent ones become one request.
const CHUNKS_AT_ONCE = 4;

/** Bytes of betas that `readResponses` decodes. */
export function sizeOf(rows: Int32Array, chunkRows: number, trials: Trials): number {
  return chunksOf(rows, chunkRows).length * chunkRows * trials.codes.length * 4;
}

/** Chunks that hold the rows, ascending. */
export function chunksOf(rows: Int32Array, chunkRows: number): number[] {
  return [...new Set(Array.from(rows, (row) => Math.floor(row / chunkRows)))].sort((a, b) => a - b);
}

export async function readResponses(
  subject: Subject,
  rows: Int32Array,
  options: { image?: string | undefined; onProgress?: (share: number) => void; signal?: AbortSignal } = {},
): Promise<Responses> {
  const trials = await subject.trials();
  const sessions = trials.sessions.filter(({ name }) => subject.sessions.includes(name));
  const arrays = await Promise.all(
    sessions.map(({ name }) => subject.group.array(name, NAMES.betas)),
  );
  const chunkRows = arrays[0]?.chunkRows ?? 1;
  const sums = new Sums(trials, options.image);
  const chunks = chunksOf(rows, chunkRows);
  for (let first = 0; first < chunks.length; first += CHUNKS_AT_ONCE) {
    const some = chunks.slice(first, first + CHUNKS_AT_ONCE);
    const found = await Promise.all(
      arrays.map((array) => Promise.all(some.map((chunk) => array.chunk([chunk, 0])))),
    );
    options.signal?.throwIfAborted();
    some.forEach((chunk, position) => {
      const inside = rows.filter((row) => Math.floor(row / chunkRows) === chunk);
      for (const row of inside) {
        const betas = sessions.map((session, n) => {
          const values = found[n]![position]!;
          const start = (row - chunk * chunkRows) * session.length;
          return { first: session.first, values: values.subarray(start, start + session.length) };
        });
        sums.add(row, betas);
      }
    });
    options.onProgress?.(Math.min(1, (first + CHUNKS_AT_ONCE) / chunks.length));
  }
  return sums.result(rows.length);
}

/** Z-scores of one voxel in one session: NaN is left out; constant betas are NaN. */
export function zscored(values: Numbers): Float64Array {
  let [n, sum, squares] = [0, 0, 0];
  for (let at = 0; at < values.length; at++) {
    const value = values[at]!;
    if (value === value) (n += 1), (sum += value);
  }
  const mean = sum / n;
  for (let at = 0; at < values.length; at++) {
    const value = values[at]!;
    if (value === value) squares += (value - mean) ** 2;
  }
  const sd = Math.sqrt(squares / n);
  const scores = new Float64Array(values.length);
  for (let at = 0; at < values.length; at++) scores[at] = sd > 0 ? (values[at]! - mean) / sd : NaN;
  return scores;
}

/** Sums over voxels: of their averages per image, and of their z-scores per trial. */
class Sums {
  readonly #ofImages: Float64Array;
  readonly #nOfImages: Int32Array;
  readonly #ofTrials: Float64Array;
  readonly #nOfTrials: Int32Array;
  readonly #code: number;
  readonly #toImage: [number, number][] = [];

  constructor(
    readonly trials: Trials,
    image: string | undefined,
  ) {
    const { images, codes } = trials;
    this.#ofImages = new Float64Array(images.length);
    this.#nOfImages = new Int32Array(images.length);
    this.#ofTrials = new Float64Array(codes.length);
    this.#nOfTrials = new Int32Array(codes.length);
    this.#code = image === undefined ? -1 : images.indexOf(image);
  }

  /** Add one voxel: its betas, session by session. */
  add(row: number, sessions: { first: number; values: Numbers }[]): void {
    const { codes, images } = this.trials;
    const sums = new Float64Array(images.length);
    const counts = new Int32Array(images.length);
    for (const { first, values } of sessions) {
      const scores = zscored(values);
      for (let at = 0; at < scores.length; at++) {
        const z = scores[at]!;
        if (z !== z) continue;
        const code = codes[first + at]!;
        sums[code]! += z;
        counts[code]! += 1;
        this.#ofTrials[first + at]! += z;
        this.#nOfTrials[first + at]! += 1;
      }
    }
    for (let code = 0; code < images.length; code++) {
      if (counts[code] === 0) continue;
      this.#ofImages[code]! += sums[code]! / counts[code]!;
      this.#nOfImages[code]! += 1;
    }
    if (this.#code >= 0) this.#toImage.push([row, sums[this.#code]! / counts[this.#code]!]);
  }

  result(nVoxels: number): Responses {
    const { images, codes } = this.trials;
    const mean = this.#ofImages.map((sum, code) => sum / this.#nOfImages[code]!);
    const counts = new Int32Array(images.length);
    const ofTrials = this.#ofTrials.map((sum, trial) => sum / this.#nOfTrials[trial]!);
    const ownMean = new Float64Array(images.length);
    ofTrials.forEach((value, trial) => {
      if (value !== value) return;
      counts[codes[trial]!]! += 1;
      ownMean[codes[trial]!]! += value;
    });
    // As of noise ceilings: the variance over trials (ddof 1), averaged over images with several.
    let variances = 0;
    ofTrials.forEach((value, trial) => {
      const code = codes[trial]!;
      if (value === value && counts[code]! > 1) variances += (value - ownMean[code]! / counts[code]!) ** 2 / (counts[code]! - 1);
    });
    const noise = Math.sqrt(variances / counts.filter((n) => n > 1).length);
    const error = Float64Array.from(counts, (n) => noise / Math.sqrt(n));
    const toImage = this.#code < 0 ? undefined : {
      order: Int32Array.from(this.#toImage, ([row]) => row),
      values: Float32Array.from(this.#toImage, ([, value]) => value),
    };
    return { images, counts, mean, error, atMost: false, order: sorted(mean), nVoxels, toImage };
  }
}

/** Images that have a response, the strongest first. */
export function sorted(mean: Float64Array): Int32Array {
  const there = Int32Array.from(mean.keys()).filter((code) => Number.isFinite(mean[code]));
  return there.sort((a, b) => mean[b]! - mean[a]! || a - b);
}
