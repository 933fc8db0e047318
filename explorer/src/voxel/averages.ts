/** Averages over the trials of each image, of the whole brain, where the store has them. */

import { NAMES } from "../names";
import type { Subject } from "./subject";

/** Part of a subject, if its store has one. */
const AVERAGES = "averages";

/** Response of each stored voxel to one image, or undefined if the store has no averages. */
export async function readAverage(subject: Subject, image: string): Promise<Float32Array | undefined> {
  const { group } = subject;
  if (!group.has(AVERAGES, NAMES.images.image_name)) return undefined;
  const row = (await group.text(AVERAGES, NAMES.images.image_name)).indexOf(image);
  if (row < 0) return undefined;
  for (const name of group.arrays(AVERAGES)) {
    const array = await group.array(AVERAGES, name);
    const [along, across] = array.metadata.dimension_names ?? [];
    if (along === NAMES.dims.image && across === NAMES.dims.voxel) {
      return (await array.rows(row, row + 1)) as Float32Array;
    }
  }
  return undefined;
}
