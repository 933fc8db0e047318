/** The brain in slices and as a volume: T1w, an overlay, and one region. */

import { MULTIPLANAR_TYPE, NVImage, Niivue, SHOW_RENDER, SLICE_TYPE } from "@niivue/niivue";
import { NAMES } from "../names";
import { type Subject, place } from "../voxel/subject";
import { REGION_COLOUR, type Scale, colourTable, indexOf } from "./colours";

export type RegionStyle = "outline" | "filled" | "off";
type Point = [number, number, number];

const UINT8 = 2;
const FLOAT32 = 16;
const COLOURS = "overlay";
// As NiiVue's own, but with the region above the overlay, and a rim of equal width on all screens.
const SHADER = `#version 300 es
precision highp int;
precision highp float;
uniform highp sampler3D volume;
uniform highp sampler3D overlay;
uniform highp sampler3D drawing;
uniform float opacity;
uniform float drawOpacity;
in vec3 texPos;
out vec4 color;
void main() {
  vec4 over = texture(overlay, texPos);
  color = vec4(mix(texture(volume, texPos).rgb, over.rgb, over.a), opacity);
  if (texture(drawing, texPos).r == 0.0) return;
  vec3 x = 2.0 * dFdx(texPos);
  vec3 y = 2.0 * dFdy(texPos);
  bool inner = texture(drawing, texPos - x).r > 0.0 && texture(drawing, texPos + x).r > 0.0 &&
    texture(drawing, texPos - y).r > 0.0 && texture(drawing, texPos + y).r > 0.0;
  color.rgb = mix(color.rgb, vec3(${REGION_COLOUR.map((value) => (value / 255).toFixed(3)).join(", ")}), inner ? drawOpacity : 1.0);
}`;

export class Slices {
  readonly #nv: Niivue;
  #subject: Subject | undefined;
  #overlay: NVImage | undefined;
  #isVolume = false;
  #silent = false;
  onPlace: (mm: Point) => void = () => {};

  constructor(readonly canvas: HTMLCanvasElement) {
    this.#nv = new Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [1, 0.9, 0.3, 0.9],
      crosshairWidth: 0.7,
      crosshairWidthUnit: "mm",
      crosshairGap: 4,
      dragAndDropEnabled: false,
      isColorbar: false,
      isOrientCube: false,
      logLevel: "silent",
      loadingText: "",
      multiplanarShowRender: SHOW_RENDER.ALWAYS,
      multiplanarLayout: MULTIPLANAR_TYPE.GRID,
      show3Dcrosshair: true,
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
      viewModeHotKey: "",
    });
    this.#nv.onLocationChange = (location) => {
      const { mm } = location as { mm: Float32Array };
      if (!this.#silent) this.onPlace([mm[0]!, mm[1]!, mm[2]!]);
    };
  }

  async attach(): Promise<void> {
    await this.#nv.attachToCanvas(this.canvas);
    this.#nv.setCustomSliceShader(SHADER);
    const [R, G, B] = REGION_COLOUR.map((value) => [0, value]) as [number[], number[], number[]];
    this.#nv.setDrawColormap({ R, G, B, A: [0, 255], I: [0, 1], labels: ["", ""] } as unknown as string);
  }

  /** Show the anatomy of a subject; without T1w, its brain mask. */
  async load(subject: Subject): Promise<void> {
    const { anatomy } = NAMES.parts;
    const { t1w } = NAMES.anatomy;
    const there = subject.group.has(anatomy, t1w);
    const values = there ? ((await subject.group.values(anatomy, t1w)) as Float32Array) : maskOf(subject);
    this.#subject = subject;
    this.#nv.closeDrawing();
    for (const volume of [...this.#nv.volumes]) this.#nv.removeVolume(volume);
    const head = await image(subject, fortran(values, subject.shape), FLOAT32, "T1w");
    head.colormap = "gray";
    const seen = Float32Array.from(values).sort();
    head.cal_min = 0;
    head.cal_max = seen[Math.floor(0.998 * (seen.length - 1))]! || 1;
    this.#overlay = await image(subject, new Uint8Array(values.length), UINT8, "overlay");
    this.#overlay.opacity = 0.9;
    this.#overlay.colormap = COLOURS;
    this.#overlay.cal_min = 0;
    this.#overlay.cal_max = 255;
    this.#nv.addColormap(COLOURS, { R: [0, 0], G: [0, 0], B: [0, 0], A: [0, 0], I: [0, 255] });
    this.#nv.addVolume(head);
    this.#nv.addVolume(this.#overlay);
  }

  /** Lay values of the stored voxels over the anatomy. */
  async show(values: Float32Array | undefined, scale: Scale): Promise<void> {
    const subject = this.#subject;
    if (!subject) return;
    const table = colourTable(scale);
    const column = (n: 0 | 1 | 2) => table.map((colour) => colour[n]);
    const alpha = table.map((_, index) => (index === 0 ? 0 : 255));
    const positions = table.map((_, index) => index);
    this.#nv.addColormap(COLOURS, { R: column(0), G: column(1), B: column(2), A: alpha, I: positions });
    this.#overlay!.img = onGrid(subject, (row) => (values ? indexOf(values[row]!, scale) : 0));
    this.#nv.updateGLVolume();
  }

  /** Outline or fill the voxels of a region. */
  async mark(rows: Int32Array | undefined, style: RegionStyle): Promise<void> {
    const subject = this.#subject;
    if (!subject) return;
    if (!rows || style === "off") {
      this.#nv.closeDrawing();
      this.#nv.drawScene();
      return;
    }
    const inside = new Uint8Array(subject.size);
    for (const row of rows) inside[row] = 1;
    this.#nv.loadDrawing(await image(subject, onGrid(subject, (row) => inside[row]!), UINT8, "region"));
    this.#nv.drawClearAllUndoBitmaps();
    this.#nv.setDrawOpacity(style === "filled" || this.#isVolume ? 0.75 : 0.02);
  }

  moveTo(mm: Point): void {
    if (this.#nv.volumes.length === 0) return;
    this.#silent = true;
    this.#nv.scene.crosshairPos = this.#nv.mm2frac(Float32Array.from(mm) as never);
    this.#nv.drawScene();
    this.#silent = false;
  }

  setView(volume: boolean): void {
    this.#isVolume = volume;
    this.#nv.setSliceType(volume ? SLICE_TYPE.RENDER : SLICE_TYPE.MULTIPLANAR);
  }

  turn(azimuth: number, elevation: number): void {
    const { renderAzimuth, renderElevation } = this.#nv.scene;
    this.#nv.setRenderAzimuthElevation(renderAzimuth + azimuth, renderElevation + elevation);
  }

  /** Fit the canvas, which may have been hidden. */
  resize(): void {
    this.#nv.resizeListener();
  }
}

/** A volume on the functional grid. */
async function image(subject: Subject, values: Uint8Array | Float32Array, type: number, name: string): Promise<NVImage> {
  const affine = subject.affine.flat();
  const length = (axis: number) => Math.hypot(affine[axis]!, affine[4 + axis]!, affine[8 + axis]!);
  const file = NVImage.createNiftiArray(subject.shape, [length(0), length(1), length(2)], affine, type as never, values);
  return NVImage.loadFromUrl({ url: file, name: `${name}.nii` });
}

/** Values per stored voxel on the grid, first axis fastest, as NIfTI has them. */
function onGrid(subject: Subject, value: (row: number) => number): Uint8Array {
  const [x, y, z] = subject.shape;
  const grid = new Uint8Array(x * y * z);
  subject.voxel.forEach((label, row) => {
    const [i, j, k] = subject.indices(label);
    grid[(k * y + j) * x + i] = value(row);
  });
  return grid;
}

/** C order to Fortran order. */
function fortran(values: ArrayLike<number>, [x, y, z]: [number, number, number]): Float32Array {
  const found = new Float32Array(values.length);
  let at = 0;
  for (let i = 0; i < x; i++) {
    for (let j = 0; j < y; j++) {
      for (let k = 0; k < z; k++) {
        const value = values[at++]!;
        found[(k * y + j) * x + i] = Number.isFinite(value) ? value : 0;
      }
    }
  }
  return found;
}

function maskOf(subject: Subject): Float32Array {
  const [x, y, z] = subject.shape;
  const mask = new Float32Array(x * y * z);
  for (const label of subject.voxel) mask[label] = 0.4;
  return mask;
}

/** Middle of the grid, where the crosshair is first. */
export function centre(subject: Subject): Point {
  const half = subject.shape.map((size) => Math.floor(size / 2)) as Point;
  return place(subject.affine, half);
}
