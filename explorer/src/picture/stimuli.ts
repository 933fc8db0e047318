/** All that was shown: pictures, captions, masks, embeddings and splits, joined by image name. */

import { NAMES } from "../names";
import { crc32 } from "../store/checksums";
import { Problem } from "../store/source";
import type { Group, Store } from "../store/store";

export type Caption = { source: string; text: string };
export type Mask = { noun: string; row: number };
export type Split = { pool: string; name: string; variant: number; splitter: string; side: "train" | "test" };
export type Near = { image: string; similarity: number };

type Table<T> = ReadonlyMap<string, T[]>;

export class Stimuli {
  readonly #kept = new Map<string, Promise<unknown>>();

  private constructor(
    readonly group: Group,
    readonly splits: Group,
  ) {}

  static async open(store: Store): Promise<Stimuli> {
    const [group, splits] = await Promise.all([
      store.group(NAMES.groups.stimuli),
      store.group(NAMES.groups.splits),
    ]);
    return new Stimuli(group, splits);
  }

  get hasPictures(): boolean {
    return this.group.has(NAMES.parts.images);
  }

  get hasCaptions(): boolean {
    return this.group.has(NAMES.parts.captions);
  }

  get hasMasks(): boolean {
    return this.group.has(NAMES.parts.segmentations);
  }

  get hasSplits(): boolean {
    return this.splits.has(NAMES.parts.membership);
  }

  get models(): string[] {
    return this.group.below(NAMES.embeddingsPart);
  }

  /** Read once; after an error, again. */
  #once<T>(what: string, read: () => Promise<T>): Promise<T> {
    let found = this.#kept.get(what) as Promise<T> | undefined;
    if (!found) {
      found = read();
      found.catch(() => this.#kept.delete(what));
      this.#kept.set(what, found);
    }
    return found;
  }

  /** Names of all images, of whichever part names them. */
  names(): Promise<string[]> {
    return this.#once("names", async () => {
      const { metadata, images } = NAMES.parts;
      const part = [metadata, images].find((name) => this.group.has(name));
      return part ? this.group.text(part, NAMES.images.image_name) : [];
    });
  }

  /** Bytes of the file of a picture, compared with its CRC-32; undefined if it is not stored. */
  async picture(name: string): Promise<Uint8Array | undefined> {
    const { images } = NAMES.parts;
    if (!this.hasPictures) return undefined;
    const { data, start, nbytes, crc32: sums } = NAMES.images;
    const [rows, starts, sizes, checksums, bytes] = await this.#once("files", () =>
      Promise.all([
        this.#rows(images),
        this.group.values(images, start),
        this.group.values(images, nbytes),
        this.group.values(images, sums),
        this.group.array(images, data),
      ]),
    );
    const row = rows.get(name);
    if (row === undefined) return undefined;
    const first = starts[row]!;
    const file = await bytes.bytes(first, first + sizes[row]!);
    if (crc32(file) !== checksums[row]) {
      throw new Problem(`${bytes.key}: the picture ${name} does not match its checksum.`);
    }
    return file;
  }

  async #rows(part: string): Promise<Map<string, number>> {
    const names = await this.group.text(part, NAMES.images.image_name);
    return new Map(names.map((name, row) => [name, row]));
  }

  captions(): Promise<Table<Caption>> {
    return this.#once("captions", async () => {
      const { captions } = NAMES.parts;
      if (!this.hasCaptions) return new Map<string, Caption[]>();
      const read = (array: string) => this.group.text(captions, array);
      const [images, texts, sources] = await Promise.all([
        read(NAMES.captions.image_name),
        read(NAMES.captions.caption),
        read(NAMES.captions.source),
      ]);
      return byImage(images, (row) => ({ source: sources[row]!, text: texts[row]! }));
    });
  }

  /** Masks of objects by image; an object that was only seen has none, and row -1. */
  masks(): Promise<Table<Mask>> {
    return this.#once("masks", async () => {
      const { segmentations } = NAMES.parts;
      if (!this.hasMasks) return new Map<string, Mask[]>();
      const [images, nouns, rows, localized] = await Promise.all([
        this.group.text(segmentations, NAMES.segmentations.image_name),
        this.group.text(segmentations, NAMES.segmentations.noun),
        this.group.values(segmentations, NAMES.segmentations.mask_row),
        this.group.values(segmentations, NAMES.segmentations.localized),
      ]);
      return byImage(images, (row) => ({
        noun: nouns[row]!,
        row: localized[row] === 1 ? rows[row]! : -1,
      }));
    });
  }

  /** One mask, (height, width) of 0 and 1. */
  async mask(row: number): Promise<{ width: number; height: number; data: Uint8Array }> {
    const array = await this.group.array(NAMES.parts.segmentations, NAMES.segmentations.masks);
    const [, height, width] = array.shape as [number, number, number];
    return { width, height, data: (await array.rows(row, row + 1)) as Uint8Array };
  }

  /** Sides of all splits that an image is in. */
  async splitsOf(image: string): Promise<Split[]> {
    const table = await this.#once("splits", async () => {
      const { membership } = NAMES.parts;
      const { pool, name, splitter, variant_id, side, image_name } = NAMES.splits;
      const text = (array: string) => this.splits.text(membership, array);
      const values = (array: string) => this.splits.values(membership, array);
      return Promise.all([
        text(pool), text(name), text(splitter), values(variant_id), values(side), text(image_name),
      ]);
    });
    const [pools, names, splitters, variants, sides, images] = table;
    const column = images.indexOf(image);
    if (column < 0) return [];
    return names.flatMap((name, row) => {
      const side = sides[row * images.length + column];
      const told = { pool: pools[row]!, name, variant: variants[row]!, splitter: splitters[row]! };
      return side === 0 ? [] : [{ ...told, side: side === 1 ? ("train" as const) : ("test" as const) }];
    });
  }

  /** Bytes of the embeddings of a model, which a search for the nearest reads. */
  async modelBytes(model: string): Promise<number> {
    const array = await this.group.array(`${NAMES.embeddingsPart}${model}`, NAMES.embedding);
    return array.nbytes;
  }

  /** Images by cosine similarity of their embeddings, the most similar first. */
  async nearest(image: string, model: string, onProgress: (share: number) => void): Promise<Near[]> {
    const part = `${NAMES.embeddingsPart}${model}`;
    const [rows, valid, array] = await Promise.all([
      this.#rows(part),
      this.group.values(part, NAMES.embeddings.valid),
      this.group.array(part, NAMES.embedding),
    ]);
    const row = rows.get(image);
    if (row === undefined || !valid[row]) return [];
    const width = array.shape[1]!;
    const own = unit(halves((await array.rows(row, row + 1)) as Uint16Array), 0, width);
    const names = [...rows.keys()];
    const found: Near[] = [];
    const step = 64 * array.chunkRows;
    for (let first = 0; first < names.length; first += step) {
      const end = Math.min(first + step, names.length);
      const values = halves((await array.rows(first, end)) as Uint16Array);
      for (let other = first; other < end; other++) {
        if (!valid[other] || other === row) continue;
        const vector = unit(values, (other - first) * width, width);
        const similarity = vector.reduce((sum, value, n) => sum + value * own[n]!, 0);
        found.push({ image: names[other]!, similarity });
      }
      onProgress(end / names.length);
    }
    return found.sort((a, b) => b.similarity - a.similarity);
  }
}

function byImage<T>(images: string[], make: (row: number) => T): Table<T> {
  const table = new Map<string, T[]>();
  images.forEach((image, row) => {
    const list = table.get(image);
    if (list) list.push(make(row));
    else table.set(image, [make(row)]);
  });
  return table;
}

function unit(values: Float32Array, start: number, length: number): Float64Array {
  const vector = Float64Array.from(values.subarray(start, start + length));
  const norm = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
  return vector.map((value) => value / norm);
}

/** Numbers of float16 bits. */
function halves(bits: Uint16Array): Float32Array {
  return Float32Array.from(bits, (half) => {
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    const sign = half & 0x8000 ? -1 : 1;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  });
}

/** Type of an out-of-distribution image, which its name tells; undefined for others. */
export function oodType(image: string): string | undefined {
  return /^shared_\w+?_OOD_([A-Za-z-]+)_/.exec(image)?.[1];
}
