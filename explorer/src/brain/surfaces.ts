/** The cortex as a surface: curvature, an overlay, and one region; from the part of geometry. */

import { NVMesh, Niivue, SLICE_TYPE } from "@niivue/niivue";
import { NAMES } from "../names";
import type { StoredArray } from "../store/store";
import { type Affine, type Subject, place } from "../voxel/subject";
import { REGION_COLOUR, type Scale, colourTable, indexOf } from "./colours";
import type { Vertices } from "./overlays";
import type { RegionStyle } from "./slices";

export type Shape = "pial" | "inflated";
type Hemi = "L" | "R";
type Point = [number, number, number];
type Cortex = {
  faces: Uint32Array;
  /** The middle of the cortex at each vertex, and the position of its voxel in storage order, or -1. */
  middle: Float32Array;
  rows: Int32Array;
  curvature: Float32Array;
  vertices: Map<Shape, Float32Array>;
};

const HEMIS: readonly Hemi[] = ["L", "R"];
const GAP = 8; // mm between the hemispheres of inflated surfaces
const NEAR = 6; // mm from a voxel to the middle of the cortex, for it to be shown there
const LIGHT = 176;
const DARK = 118;

/** Whether the store has what surfaces need. */
export function hasSurfaces(subject: Subject): boolean {
  const { geometry } = NAMES.parts;
  const needed = HEMIS.flatMap((hemi) => [NAMES.faces[hemi], ...["white", "pial"].map((name) => NAMES.hemis[hemi] + name)]);
  return needed.every((name) => subject.group.has(geometry, name));
}

export function hasInflated(subject: Subject): boolean {
  return HEMIS.every((hemi) => subject.group.has(NAMES.parts.geometry, `${NAMES.hemis[hemi]}inflated`));
}

export class Surfaces {
  readonly #nv: Niivue;
  readonly #cortices = new Map<Hemi, Cortex>();
  readonly #meshes = new Map<Hemi, NVMesh>();
  #subject: Subject | undefined;
  #shape: Shape | undefined;
  #marked: readonly [Uint8Array | undefined, RegionStyle] = [undefined, "off"];
  #silent = false;
  onVoxel: (label: number) => void = () => {};

  constructor(readonly canvas: HTMLCanvasElement) {
    this.#nv = new Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [1, 0.9, 0.3, 1],
      crosshairWidth: 1,
      crosshairWidthUnit: "mm",
      dragAndDropEnabled: false,
      isDepthPickMesh: true,
      isOrientCube: false,
      logLevel: "silent",
      loadingText: "",
      show3Dcrosshair: false, // until there is a place to show
      sliceType: SLICE_TYPE.RENDER,
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
      viewModeHotKey: "",
    });
    this.#nv.onLocationChange = (location) => {
      const { mm } = location as { mm: Float32Array };
      if (!this.#silent) this.#picked([mm[0]!, mm[1]!, mm[2]!]);
    };
  }

  async attach(): Promise<void> {
    await this.#nv.attachToCanvas(this.canvas);
    this.#nv.setRenderAzimuthElevation(340, -20);
  }

  /** Show the surfaces of a subject; each is read once. */
  async load(subject: Subject, shape: Shape): Promise<void> {
    if (this.#subject !== subject) this.#cortices.clear();
    if (this.#subject === subject && this.#shape === shape) return;
    const cortices = await Promise.all(HEMIS.map((hemi) => this.#read(subject, hemi, shape)));
    this.#subject = subject;
    this.#shape = shape;
    for (const mesh of this.#meshes.values()) this.#nv.removeMesh(mesh);
    HEMIS.forEach((hemi, n) => {
      this.#cortices.set(hemi, cortices[n]!);
      const { faces, vertices } = cortices[n]!;
      const plain = new Uint8Array([LIGHT, LIGHT, LIGHT, 255]);
      const points = Float32Array.from(vertices.get(shape)!);
      const mesh = new NVMesh(points, faces, `hemi-${hemi}`, plain, 1, true, this.#nv.gl);
      this.#nv.addMesh(mesh);
      this.#nv.setMeshShader(mesh.id, "Diffuse"); // lit from where one looks: others leave the bottom dark
      this.#meshes.set(hemi, mesh);
    });
  }

  async #read(subject: Subject, hemi: Hemi, shape: Shape): Promise<Cortex> {
    const known = this.#subject === subject ? this.#cortices.get(hemi) : undefined;
    if (known?.vertices.has(shape)) return known;
    const { geometry } = NAMES.parts;
    const array = (name: string) => subject.group.array(geometry, name);
    const toScanner = await affineFor(subject);
    const surface = async (name: string) => inScanner(await array(NAMES.hemis[hemi] + name), toScanner);
    if (known) {
      known.vertices.set(shape, apart(await surface(shape), shape, hemi));
      return known;
    }
    const curvature = `${NAMES.hemis[hemi]}curv`;
    const [faces, white, pial, shown, curv] = await Promise.all([
      array(NAMES.faces[hemi]).then((found) => found.values()),
      surface("white"),
      surface("pial"),
      surface(shape),
      subject.group.has(geometry, curvature) ? array(curvature).then((found) => found.values()) : undefined,
    ]);
    const rows = new Int32Array(white.length / 3);
    const middle = white.map((value, n) => (value + pial[n]!) / 2);
    for (let vertex = 0; vertex < rows.length; vertex++) {
      const label = subject.at(middle.subarray(3 * vertex, 3 * vertex + 3));
      rows[vertex] = (label === undefined ? undefined : subject.row(label)) ?? -1;
    }
    return {
      faces: Uint32Array.from(faces),
      middle,
      rows,
      curvature: (curv as Float32Array | undefined) ?? new Float32Array(rows.length),
      vertices: new Map([[shape, apart(shown, shape, hemi)]]),
    };
  }

  /** Whether values per vertex are those of these surfaces. */
  fits(vertices: Vertices): boolean {
    return HEMIS.every((hemi) => vertices[hemi].length === this.#cortices.get(hemi)?.rows.length);
  }

  /** Colour each vertex by its own value, or by that of the voxel in the middle of the cortex there. */
  show(values: Float32Array | undefined, vertices: Vertices | undefined, scale: Scale): void {
    const table = colourTable(scale);
    const [marked, style] = this.#marked;
    for (const [hemi, mesh] of this.#meshes) {
      const { rows, curvature, faces } = this.#cortices.get(hemi)!;
      const rim = marked && style !== "off" ? edge(rows, marked, faces) : undefined;
      const colours = new Uint8Array(4 * rows.length);
      rows.forEach((row, vertex) => {
        const value = vertices ? vertices[hemi][vertex]! : values && row >= 0 ? values[row]! : NaN;
        const index = indexOf(value, scale);
        const grey = curvature[vertex]! > 0 ? DARK : LIGHT;
        let colour: readonly number[] = index ? table[index]! : [grey, grey, grey];
        if (rim?.[vertex] || (style === "filled" && row >= 0 && marked?.[row])) colour = REGION_COLOUR;
        colours.set([colour[0]!, colour[1]!, colour[2]!, 255], 4 * vertex);
      });
      mesh.rgba255 = colours;
      mesh.updateMesh(this.#nv.gl);
    }
    this.#nv.drawScene();
  }

  /** Mark the voxels of a region; shown with the next `show`. */
  mark(rows: Int32Array | undefined, style: RegionStyle): void {
    if (!rows || !this.#subject) {
      this.#marked = [undefined, style];
      return;
    }
    const inside = new Uint8Array(this.#subject.size);
    for (const row of rows) inside[row] = 1;
    this.#marked = [inside, style];
  }

  /** Put the crosshair on the vertex whose middle of the cortex is nearest to a place, if one is near. */
  moveTo(mm: Point): void {
    const found = this.#nearest(mm, ({ middle }) => middle);
    const near = found && found.distance <= NEAR;
    this.#nv.opts.show3Dcrosshair = Boolean(near);
    if (near) {
      const { vertex, cortex } = found;
      const at = cortex.vertices.get(this.#shape!)!.slice(3 * vertex, 3 * vertex + 3);
      this.#silent = true;
      this.#nv.scene.crosshairPos = this.#nv.mm2frac(at as never);
      this.#silent = false;
    }
    this.#nv.drawScene();
  }

  #picked(mm: Point): void {
    const found = this.#nearest(mm, ({ vertices }) => vertices.get(this.#shape!)!);
    const row = found ? found.cortex.rows[found.vertex]! : -1;
    if (row >= 0 && this.#subject) this.onVoxel(this.#subject.voxel[row]!);
  }

  #nearest(mm: Point, of: (cortex: Cortex) => Float32Array): { cortex: Cortex; vertex: number; distance: number } | undefined {
    let best: { cortex: Cortex; vertex: number; distance: number } | undefined;
    for (const cortex of this.#cortices.values()) {
      const points = of(cortex);
      for (let vertex = 0; vertex < cortex.rows.length; vertex++) {
        const distance = Math.hypot(points[3 * vertex]! - mm[0], points[3 * vertex + 1]! - mm[1], points[3 * vertex + 2]! - mm[2]);
        if (!best || distance < best.distance) best = { cortex, vertex, distance };
      }
    }
    return best;
  }

  turn(azimuth: number, elevation: number): void {
    const { renderAzimuth, renderElevation } = this.#nv.scene;
    this.#nv.setRenderAzimuthElevation(renderAzimuth + azimuth, renderElevation + elevation);
  }

  resize(): void {
    this.#nv.resizeListener();
  }
}

async function affineFor(subject: Subject): Promise<Affine | undefined> {
  const { geometry } = NAMES.parts;
  if (!subject.group.has(geometry, NAMES.toScanner)) return undefined;
  const flat = await subject.group.values(geometry, NAMES.toScanner);
  return [0, 1, 2, 3].map((row) => Array.from(flat.slice(4 * row, 4 * row + 4)));
}

/** Vertices in scanner mm; the affine of the surface's own file counts before the part's. */
async function inScanner(array: StoredArray, shared: Affine | undefined): Promise<Float32Array> {
  const affine = (array.attributes[NAMES.toScanner] as Affine | undefined) ?? shared;
  const points = (await array.values()) as Float32Array;
  if (!affine) return points;
  const found = new Float32Array(points.length);
  for (let at = 0; at < points.length; at += 3) found.set(place(affine, points.subarray(at, at + 3)), at);
  return found;
}

/** Inflated hemispheres overlap in the middle: move them apart. */
function apart(points: Float32Array, shape: Shape, hemi: Hemi): Float32Array {
  if (shape !== "inflated") return points;
  let inner = hemi === "L" ? -Infinity : Infinity;
  for (let at = 0; at < points.length; at += 3) {
    inner = hemi === "L" ? Math.max(inner, points[at]!) : Math.min(inner, points[at]!);
  }
  const shift = (hemi === "L" ? -GAP / 2 : GAP / 2) - inner;
  return points.map((value, n) => (n % 3 === 0 ? value + shift : value));
}

/** Vertices of a region that have a neighbour outside it. */
function edge(rows: Int32Array, inside: Uint8Array, faces: Uint32Array): Uint8Array {
  const is = (vertex: number) => rows[vertex]! >= 0 && inside[rows[vertex]!] === 1;
  const found = new Uint8Array(rows.length);
  for (let face = 0; face < faces.length; face += 3) {
    const corners = faces.subarray(face, face + 3);
    const n = corners.reduce((sum, vertex) => sum + Number(is(vertex)), 0);
    if (n > 0 && n < 3) for (const vertex of corners) if (is(vertex)) found[vertex] = 1;
  }
  return found;
}
