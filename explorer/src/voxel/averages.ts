/** Averages over the trials of each image, of the whole brain, where the store has them. */

import { NAMES } from "../names";
import type { Subject } from "./subject";

const PART = NAMES.parts.averages;

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
  const row = (await group.text(PART, NAMES.averages.image_name)).indexOf(image);
  if (row < 0) return undefined;
  return (await (await group.array(PART, NAMES.averages.mean)).rows(row, row + 1)) as Float32Array;
}
