/** The brain in slices and as a volume: T1w, an overlay, and one region. */

import { MULTIPLANAR_TYPE, NVImage, Niivue, SHOW_RENDER, SLICE_TYPE } from "@niivue/niivue";
import { NAMES } from "../names";
import { type Subject, place } from "../voxel/subject";
import { REGION_COLOUR, type Scale, colourTable, indexOf } from "./colours";

export type RegionStyle = "outline" | "filled" | "off";
type Point = [number, number, number];

const UINT8 = 2;
// Bytes of a NIfTI header that say which values are the ends of the colours.
const [CAL_MAX, CAL_MIN] = [124, 128];
const COLOURS = "overlay";
const SAMPLED = 17; // every so manieth voxel tells the range of the anatomy
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
  /** The anatomy, until it is drawn together with the first overlay. */
  #head: NVImage | undefined;
  #isVolume = false;
  /** What is drawn: drawing it again would take a second without a graphics card. */
  #drawn: { values: Float32Array | undefined; scale: string } | undefined;
  #marked = "";
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
    if (isSlow(this.#nv.gl)) this.#nv.opts.multiplanarShowRender = SHOW_RENDER.NEVER;
    this.#nv.setCustomSliceShader(SHADER);
    const [R, G, B] = REGION_COLOUR.map((value) => [0, value]) as [number[], number[], number[]];
    this.#nv.setDrawColormap({ R, G, B, A: [0, 255], I: [0, 1], labels: ["", ""] } as unknown as string);
  }

  /** Show the anatomy of a subject; without T1w, its brain mask. */
  async load(subject: Subject): Promise<void> {
    const { anatomy } = NAMES.parts;
    const { t1w } = NAMES.anatomy;
    const there = subject.group.has(anatomy, t1w);
    const values = there ? asBytes((await subject.group.values(anatomy, t1w)) as Float32Array) : maskOf(subject);
    this.#subject = subject;
    this.#drawn = undefined;
    this.#marked = "";
    this.#nv.closeDrawing();
    for (const volume of [...this.#nv.volumes]) this.#nv.removeVolume(volume);
    this.#head = await image(subject, values, "T1w");
    this.#head.colormap = "gray";
    this.#overlay = await image(subject, new Uint8Array(values.length), "overlay");
    this.#overlay.opacity = 0.9;
    this.#overlay.colormap = COLOURS;
  }

  /** Lay values of the stored voxels over the anatomy. */
  show(values: Float32Array | undefined, scale: Scale): void {
    const subject = this.#subject;
    const wanted = { values, scale: JSON.stringify(scale) };
    if (!subject || (this.#drawn?.values === values && this.#drawn?.scale === wanted.scale)) return;
    this.#drawn = wanted;
    const table = colourTable(scale);
    const column = (n: 0 | 1 | 2) => table.map((colour) => colour[n]);
    const alpha = table.map((_, index) => (index === 0 ? 0 : 255));
    const positions = table.map((_, index) => index);
    this.#nv.addColormap(COLOURS, { R: column(0), G: column(1), B: column(2), A: alpha, I: positions });
    this.#overlay!.img = onGrid(subject, (row) => (values ? indexOf(values[row]!, scale) : 0));
    if (!this.#head) return this.#nv.updateGLVolume();
    this.#nv.volumes = [this.#head, this.#overlay!];
    this.#nv.setVolume(this.#overlay!, 1); // draws both
    this.#head = undefined;
  }

  /** Outline or fill the voxels of a region. */
  async mark(rows: Int32Array | undefined, style: RegionStyle): Promise<void> {
    const subject = this.#subject;
    const wanted = `${style} ${this.#isVolume} ${rows?.join(" ")}`;
    if (!subject || wanted === this.#marked) return;
    this.#marked = wanted;
    if (!rows || style === "off") {
      this.#nv.closeDrawing();
      this.#nv.drawScene();
      return;
    }
    const inside = new Uint8Array(subject.size);
    for (const row of rows) inside[row] = 1;
    this.#nv.loadDrawing(await image(subject, onGrid(subject, (row) => inside[row]!), "region"));
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

/**
 * A volume on the functional grid, in C order as it is stored. NIfTI has the first axis fastest: to
 * it, this is a volume whose axes are in reverse.
 */
async function image(subject: Subject, values: Uint8Array, name: string): Promise<NVImage> {
  const rows = subject.affine.map(([x, y, z, shift]) => [z!, y!, x!, shift!]);
  const length = (axis: number) => Math.hypot(...rows.slice(0, 3).map((row) => row[axis]!));
  const shape = [...subject.shape].reverse();
  const file = NVImage.createNiftiArray(shape, [length(0), length(1), length(2)], rows.flat(), UINT8, values);
  const header = new DataView(file.buffer, file.byteOffset);
  header.setFloat32(CAL_MAX, 255, true); // or NiiVue looks for the range itself
  header.setFloat32(CAL_MIN, 0, true);
  return NVImage.loadFromUrl({ url: file, name: `${name}.nii` });
}

/** Whether there is no graphics card: a volume beside the slices would take long. */
function isSlow(gl: WebGL2RenderingContext): boolean {
  const names = gl.getExtension("WEBGL_debug_renderer_info");
  return names !== null && /swiftshader|llvmpipe|software/i.test(String(gl.getParameter(names.UNMASKED_RENDERER_WEBGL)));
}

/** Values per stored voxel on the grid. */
function onGrid(subject: Subject, value: (row: number) => number): Uint8Array {
  const [x, y, z] = subject.shape;
  const grid = new Uint8Array(x * y * z);
  subject.voxel.forEach((label, row) => (grid[label] = value(row)));
  return grid;
}

/** From black at 0 to white at the value that few are above: the graphics card holds no finer ones. */
function asBytes(values: Float32Array): Uint8Array {
  const seen = Float32Array.from({ length: Math.ceil(values.length / SAMPLED) }, (_, n) => values[n * SAMPLED]!).sort();
  const scale = 255 / (seen[Math.floor(0.998 * (seen.length - 1))]! || 1);
  const found = new Uint8ClampedArray(values.length); // where NaN becomes 0
  for (let at = 0; at < values.length; at++) found[at] = values[at]! * scale;
  return new Uint8Array(found.buffer);
}

function maskOf(subject: Subject): Uint8Array {
  const [x, y, z] = subject.shape;
  const mask = new Uint8Array(x * y * z);
  for (const label of subject.voxel) mask[label] = 100;
  return mask;
}

/** Middle of the grid, where the crosshair is first. */
export function centre(subject: Subject): Point {
  const half = subject.shape.map((size) => Math.floor(size / 2)) as Point;
  return place(subject.affine, half);
}
