/** One subject: its voxels in storage order, regions, maps and trials. */

import { NAMES } from "../names";
import { Problem } from "../store/source";
import type { Group, Named, Numbers, Store } from "../store/store";

export type Region = { name: string; category: string; row: number };
export type Affine = number[][];
/** Trials of the subject: code of the image of each, and where each session begins. */
export type Trials = {
  images: string[];
  codes: Int32Array;
  counts: Int32Array;
  sessions: { name: string; first: number; length: number }[];
};
export type LocalizerMap = { row: number; task: string; contrast: string; session: string };

export class Subject {
  #trials: Promise<Trials> | undefined;
  readonly #rowOf = new Map<number, number>();

  private constructor(
    readonly name: string,
    readonly group: Group,
    readonly shape: [number, number, number],
    readonly affine: Affine,
    /** Label of each stored voxel: the flat C-order index into the grid. */
    readonly voxel: Int32Array,
    readonly inBrain: Uint8Array,
    readonly regions: Region[],
    readonly regionMask: Uint8Array,
    readonly ceilings: string[],
    readonly ceiling: Float32Array,
    readonly sessions: string[],
  ) {
    voxel.forEach((label, row) => this.#rowOf.set(label, row));
  }

  static async open(store: Store, name: string): Promise<Subject> {
    const group = await store.group(name);
    const { voxels, trials } = NAMES.parts;
    if (!group.has(voxels)) throw new Problem(`${name} has no voxels in this store.`);
    const { roi, category, roi_mask, nc, noise_ceiling, in_anatomical } = NAMES.voxels;
    // Asked for now, so that it is there when it is drawn; what is wrong with it is told then.
    group.prefetch(NAMES.parts.anatomy, NAMES.anatomy.t1w);
    const read = (array: string) => group.values(voxels, array);
    const optional = <T>(array: string, get: (array: string) => Promise<T>, none: T) =>
      group.has(voxels, array) ? get(array) : Promise.resolve(none);
    const text = (array: string) => group.text(voxels, array);
    const [grid, [i, j, k], inBrain, names, categories, mask, ceilings, ceiling] = await Promise.all([
      group.attributes(voxels),
      Promise.all([read(NAMES.voxels.i), read(NAMES.voxels.j), read(NAMES.voxels.k)]),
      read(in_anatomical),
      optional(roi, text, []),
      optional(category, text, []),
      optional<Numbers>(roi_mask, read, new Uint8Array(0)),
      optional(nc, text, []),
      optional<Numbers>(noise_ceiling, read, new Float32Array(0)),
    ]);
    const shape = grid.shape as [number, number, number];
    // The labels themselves are four times as many bytes, packed.
    const label = Int32Array.from(i, (x, row) => (x * shape[1] + j[row]!) * shape[2] + k[row]!);
    const listed = Object.keys(group.parts[trials]?.sources ?? {});
    const sessions = listed.filter((part) => part.startsWith("ses-") && group.has(part)).sort();
    return new Subject(
      name,
      group,
      shape,
      grid.affine as Affine,
      label,
      inBrain as Uint8Array,
      names.map((region, row) => ({ name: region, category: categories[row] ?? "", row })),
      mask as Uint8Array,
      ceilings,
      ceiling as Float32Array,
      sessions,
    );
  }

  get size(): number {
    return this.voxel.length;
  }

  /** Position in storage order of a voxel label, or undefined where none is stored. */
  row(label: number): number | undefined {
    return this.#rowOf.get(label);
  }

  indices(label: number): [number, number, number] {
    const [, y, z] = this.shape;
    return [Math.floor(label / (y * z)), Math.floor(label / z) % y, label % z];
  }

  mm(label: number): [number, number, number] {
    return place(this.affine, this.indices(label));
  }

  /** Label of the voxel at a place in mm, or undefined outside the grid. */
  at(mm: ArrayLike<number>): number | undefined {
    const ijk = place(inverse(this.affine), mm).map(Math.round) as [number, number, number];
    if (ijk.some((index, axis) => index < 0 || index >= this.shape[axis]!)) return undefined;
    return (ijk[0] * this.shape[1] + ijk[1]) * this.shape[2] + ijk[2];
  }

  regionNamed(name: string): Region | undefined {
    return this.regions.find((region) => region.name === name);
  }

  regionsOf(row: number): Region[] {
    return this.regions.filter((region) => this.regionMask[region.row * this.size + row]);
  }

  /** Stored voxels of a region; in the anatomical brain mask alone, as `get_betas` has them. */
  rowsOf(region: Region, inBrain: boolean): Int32Array {
    const rows: number[] = [];
    for (let row = 0; row < this.size; row++) {
      if (this.regionMask[region.row * this.size + row] && (!inBrain || this.inBrain[row])) rows.push(row);
    }
    return Int32Array.from(rows);
  }

  /** Rows of one of the ceilings across sessions. */
  ceilingOf(name: string): Float32Array | undefined {
    const row = this.ceilings.indexOf(name);
    return row < 0 ? undefined : this.ceiling.subarray(row * this.size, (row + 1) * this.size);
  }

  /** The ceiling that the page names first: that across all sessions, else the last there is. */
  get mainCeiling(): string | undefined {
    const all = NAMES.allSessionsCeiling;
    return this.ceilings.includes(all) ? all : this.ceilings.at(-1);
  }

  async map(session: string, name: string): Promise<Float32Array> {
    return (await this.group.values(`${NAMES.mapsPart}${session}`, name)) as Float32Array;
  }

  /** z maps over all runs, of the localizers on the functional grid. */
  async localizers(): Promise<LocalizerMap[]> {
    return this.localizersOf("1pt8");
  }

  async localizersOf(place: "1pt8" | "L" | "R"): Promise<LocalizerMap[]> {
    const { localizers } = NAMES.parts;
    const name = NAMES.localizerMaps[place];
    if (!this.group.has(localizers, name)) return [];
    const array = await this.group.array(localizers, name);
    const labels = array.attributes[NAMES.mapLabels] as Named<(string | number)[]>;
    const rows = labels.stat!.map((stat, row) => ({
      row,
      task: String(labels.task![row]),
      contrast: String(labels.contrast![row]),
      session: String(labels.session![row]),
      shown: stat === "z" && labels.run![row] === 0,
    }));
    return rows.filter((row) => row.shown);
  }

  async localizer(row: number, place: "1pt8" | "L" | "R" = "1pt8"): Promise<Float32Array> {
    const array = await this.group.array(NAMES.parts.localizers, NAMES.localizerMaps[place]);
    return (await array.rows(row, row + 1)) as Float32Array;
  }

  trials(): Promise<Trials> {
    this.#trials ??= readTrials(this.group);
    this.#trials.catch(() => (this.#trials = undefined));
    return this.#trials;
  }
}

/** Trial tables of one subject, of all its sessions. */
export async function readTrials(group: Group): Promise<Trials> {
  const { trials } = NAMES.parts;
  if (!group.has(trials)) return { images: [], codes: new Int32Array(0), counts: new Int32Array(0), sessions: [] };
  const [names, sessionOf] = await Promise.all([
    group.text(trials, NAMES.trials.image_name),
    group.text(trials, NAMES.trials.session),
  ]);
  const images = [...new Set(names)].sort(byCodePoint);
  const codeOf = new Map(images.map((name, code) => [name, code]));
  const codes = Int32Array.from(names, (name) => codeOf.get(name)!);
  const counts = new Int32Array(images.length);
  codes.forEach((code) => counts[code]!++);
  const sessions: Trials["sessions"] = [];
  sessionOf.forEach((name, trial) => {
    const last = sessions.at(-1);
    if (last?.name === name) last.length += 1;
    else sessions.push({ name, first: trial, length: 1 });
  });
  return { images, codes, counts, sessions };
}

function byCodePoint(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Apply an affine to a point. */
export function place(affine: Affine, point: ArrayLike<number>): [number, number, number] {
  const row = ([a, b, c, d]: number[]) => a! * point[0]! + b! * point[1]! + c! * point[2]! + d!;
  return [row(affine[0]!), row(affine[1]!), row(affine[2]!)];
}

export function inverse(affine: Affine): Affine {
  const [[a, b, c, x], [d, e, f, y], [g, h, i, z]] = affine as [number[], number[], number[]];
  const cofactors = [
    [e! * i! - f! * h!, c! * h! - b! * i!, b! * f! - c! * e!],
    [f! * g! - d! * i!, a! * i! - c! * g!, c! * d! - a! * f!],
    [d! * h! - e! * g!, b! * g! - a! * h!, a! * e! - b! * d!],
  ];
  const determinant = a! * cofactors[0]![0]! + b! * cofactors[1]![0]! + c! * cofactors[2]![0]!;
  const rows = cofactors.map((row) => row.map((value) => value / determinant));
  return rows.map((row) => [...row, -(row[0]! * x! + row[1]! * y! + row[2]! * z!)]).concat([[0, 0, 0, 1]]);
}
