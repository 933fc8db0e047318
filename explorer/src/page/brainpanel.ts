/** The brain, what is laid over it, and what is under the crosshair. */

import { DEFAULT_SCHEME, SCHEMES, type Scale, gradients } from "../brain/colours";
import { NONE, OWN, type Overlay, PICTURE, highEnd, overlaysOf, valuesOf, verticesOf } from "../brain/overlays";
import { type RegionStyle, Slices, centre } from "../brain/slices";
import { type Shape, Surfaces, hasInflated, hasSurfaces } from "../brain/surfaces";
import { Problem } from "../store/source";
import { lackOfAverages, readAverage } from "../voxel/averages";
import { readResponses } from "../voxel/responses";
import type { Context } from "./context";
import { h, labelled, option } from "./dom";
import { Job } from "./job";

const SETTLED = 150; // ms: of moves of the crosshair that follow one another this fast, the last counts

export class BrainPanel {
  readonly element: HTMLElement;
  readonly #job = new Job();
  readonly #slicesCanvas = h("canvas", { "aria-label": CANVAS_LABEL, tabindex: 0 });
  readonly #surfaceCanvas = h("canvas", { "aria-label": SURFACE_LABEL, tabindex: 0 });
  // NiiVue shows its canvas always: what holds it is shown or not.
  readonly #slicesPlace = h("div", {}, this.#slicesCanvas);
  readonly #surfacePlace = h("div", { hidden: true }, this.#surfaceCanvas);
  readonly #slices = new Slices(this.#slicesCanvas);
  #surfaces: Surfaces | undefined;
  readonly #overlay = h("select");
  readonly #view = h("select");
  readonly #low = h("input", { type: "number", step: "any", min: 0 });
  readonly #high = h("input", { type: "number", step: "any", min: 0 });
  readonly #colours = h("select", {}, ...Object.entries(SCHEMES).map(([id, { label }]) => option(id, label)));
  readonly #style = h("select", {}, option("outline", "outlined"), option("filled", "filled"), option("off", "not shown"));
  readonly #legend = h("div", { class: "legend" });
  readonly #readout = h("dl", { class: "readout", "aria-live": "polite" });
  readonly #note = h("p", { class: "hint missing" });
  readonly #voxel = h("input", { type: "text", inputmode: "numeric", size: 18, placeholder: "voxel, or x, y, z in mm" });
  #overlays: Overlay[] = [NONE];
  #values: Float32Array | undefined;
  /** Of what the values are. */
  #shown = "";
  #cursor: Point = [0, 0, 0];
  #settling = 0;
  #moved = -Infinity;

  constructor(readonly context: Context) {
    const go = h("form", { class: "go", onsubmit: (event) => this.#goTo(event) }, labelled("Go to", this.#voxel), h("button", {}, "Go"));
    this.element = h(
      "section", { class: "panel brain", "aria-label": "Brain" },
      h("div", { class: "controls" },
        labelled("Overlay", this.#overlay), labelled("View", this.#view),
        h("span", { class: "pair" }, labelled("From", this.#low), labelled("to", this.#high)), labelled("Colours", this.#colours), labelled("Region", this.#style)),
      h("div", { class: "canvases" }, this.#slicesPlace, this.#surfacePlace),
      this.#legend, this.#job.status, this.#note, this.#readout, go,
    );
    const { state } = context;
    this.#overlay.onchange = () => state.set({ overlay: this.#overlay.value, low: "", high: "" });
    this.#view.onchange = () => state.set({ view: this.#view.value });
    this.#low.oninput = () => state.set({ low: this.#low.value }, { replace: true });
    this.#high.oninput = () => state.set({ high: this.#high.value }, { replace: true });
    this.#colours.onchange = () => state.set({ colours: this.#colours.value }, { replace: true });
    this.#style.onchange = () => state.set({ style: this.#style.value }, { replace: true });
    this.#slices.onPlace = (mm) => {
      this.#cursor = mm;
      this.#placed(this.context.subject.at(mm));
    };
    this.#slicesCanvas.addEventListener("keydown", (event) => this.#key(event));
    this.#surfaceCanvas.addEventListener("keydown", (event) => {
      const turn = TURNS[event.key];
      if (!turn) return;
      event.preventDefault();
      event.stopImmediatePropagation(); // NiiVue has other uses for these keys
      this.#surfaces?.turn(...turn);
    });
  }

  async attach(): Promise<void> {
    await this.#slices.attach();
  }

  /** Show another subject. */
  async load(): Promise<void> {
    const { subject, own } = this.context;
    this.#overlays = [...(await overlaysOf(subject)), PICTURE, ...(own ? [{ ...OWN, signed: own.values.some((value) => value < 0) }] : [])];
    this.#overlay.replaceChildren(...grouped(this.#overlays));
    const views = [option("slices", "slices"), option("volume", "volume")];
    if (hasSurfaces(subject)) {
      views.push(option("pial", "pial surface"));
      if (hasInflated(subject)) views.push(option("inflated", "inflated surface"));
    }
    this.#view.replaceChildren(...views);
    this.#view.title = hasSurfaces(subject) ? "" : "The store has no cortical surfaces of this subject.";
    await this.#slices.load(subject);
    await this.refresh();
  }

  /** The overlay that is shown: what the address says, else the noise ceiling. */
  get overlay(): Overlay {
    const { state, subject } = this.context;
    const wanted = state.view.overlay || `ceiling/${subject.mainCeiling}`;
    return this.#overlays.find(({ id }) => id === wanted) ?? NONE;
  }

  /** Read the values of the overlay, if they are not there yet, and draw all anew. */
  async refresh(): Promise<void> {
    const { id } = this.overlay;
    const { picture, region } = this.context.state.view;
    const wanted = [this.context.subject.name, id, ...(id === PICTURE.id ? [picture, region] : [])].join(" ");
    const read = wanted !== this.#shown || id === OWN.id;
    await this.#job.run(read ? "Reading the overlay …" : "", async (signal) => {
      if (read) {
        this.#shown = "";
        this.context.shown = undefined;
        const values = await this.#read(this.overlay, signal);
        if (signal.aborted) return;
        this.#values = this.context.shown = values;
        this.#shown = wanted;
      }
      await this.#draw(signal);
    });
  }

  async #read(overlay: Overlay, signal: AbortSignal): Promise<Float32Array | undefined> {
    const { subject, state, own } = this.context;
    this.#note.textContent = "";
    if (overlay.id === PICTURE.id) return this.#toPicture(signal);
    if (overlay.id === OWN.id && own) {
      const values = new Float32Array(subject.size).fill(NaN);
      own.labels.forEach((label, n) => {
        const row = subject.row(label);
        if (row !== undefined) values[row] = own.values[n]!;
      });
      return values;
    }
    if (state.view.overlay && overlay.id !== state.view.overlay) {
      this.#note.textContent = `${state.view.overlay} is not in the store.`;
    }
    return valuesOf(subject, overlay.id);
  }

  async #toPicture(signal: AbortSignal): Promise<Float32Array | undefined> {
    const { subject, state } = this.context;
    const { picture, region: name } = state.view;
    if (!picture) {
      this.#note.textContent = "Choose a picture: search for one, or click on one of the strongest.";
      return undefined;
    }
    const lack = lackOfAverages(subject);
    const average = lack === undefined ? await readAverage(subject, picture) : undefined;
    if (average) return average;
    const region = subject.regionNamed(name);
    const how = lack ?? `${subject.name} has no average of ${picture}.`;
    if (!region) {
      this.#note.textContent = `${how} Without them, name a region to see its responses.`;
      return undefined;
    }
    const rows = subject.rowsOf(region, true);
    const { toImage } = await readResponses(subject, rows, { image: picture, signal });
    this.#note.textContent = `Shown for ${region.name} alone. ${how}`;
    const values = new Float32Array(subject.size).fill(NaN);
    if (toImage) toImage.order.forEach((row, n) => (values[row] = toImage.values[n]!));
    return values;
  }

  #scale(overlay: Overlay): Scale {
    const { low, high, colours } = this.context.state.view;
    const end = overlay.high ?? (this.#values ? highEnd(this.#values) : 1);
    return {
      low: number(low, overlay.low), high: number(high, Number(end.toPrecision(3))), signed: overlay.signed,
      scheme: colours || (overlay.signed ? "orange" : DEFAULT_SCHEME),
    };
  }

  async #draw(signal: AbortSignal): Promise<void> {
    const { state, subject } = this.context;
    const overlay = this.overlay;
    const scale = this.#scale(overlay);
    const view = [...this.#view.options].some(({ value }) => value === state.view.view) ? state.view.view : "slices";
    this.#overlay.value = overlay.id;
    this.#view.value = view;
    for (const [input, value] of [[this.#low, scale.low], [this.#high, scale.high]] as const) {
      if (!input.matches(":focus")) input.value = String(value); // what is being typed stays
    }
    this.#colours.value = scale.scheme;
    this.#style.value = state.view.style;
    const region = subject.regionNamed(state.view.region);
    const rows = region && subject.rowsOf(region, false);
    const style = state.view.style as RegionStyle;
    const onSurface = view === "pial" || view === "inflated";
    this.#slicesPlace.hidden = onSurface;
    this.#surfacePlace.hidden = !onSurface;
    if (onSurface) {
      const [surfaces, own] = await Promise.all([this.#surface(view as Shape), verticesOf(subject, overlay.id)]);
      if (signal.aborted) return;
      surfaces.mark(rows, style);
      this.context.vertices = own && surfaces.fits(own) ? own : undefined;
      surfaces.show(this.#values, this.context.vertices, scale);
    } else {
      this.context.vertices = undefined;
      this.#slices.resize();
      this.#slices.setView(view === "volume");
      this.#slices.show(this.#values, scale);
      await this.#slices.mark(rows, style);
    }
    this.#drawLegend(overlay, scale);
    if (onSurface && overlay.id !== NONE.id) this.#legend.append(h("span", { class: "hint" }, this.context.vertices ? OF_VERTICES : OF_VOXELS));
    this.cross();
  }

  async #surface(shape: Shape): Promise<Surfaces> {
    if (!this.#surfaces) {
      this.#surfaces = new Surfaces(this.#surfaceCanvas);
      await this.#surfaces.attach();
      this.#surfaces.onVoxel = (label) => this.#placed(label);
    }
    this.#job.say("Reading the surfaces …");
    await this.#surfaces.load(this.context.subject, shape);
    this.#job.say("");
    this.#surfaces.resize();
    return this.#surfaces;
  }

  #drawLegend(overlay: Overlay, scale: Scale): void {
    if (overlay.id === NONE.id) return this.#legend.replaceChildren();
    const { positive, negative } = gradients(scale);
    const units = overlay.id === OWN.id ? this.context.own?.units ?? "" : overlay.units;
    const name = overlay.id === OWN.id ? this.context.own?.name ?? overlay.label : overlay.label;
    const bar = (colours: string) => h("span", { class: "bar", style: `background: ${colours}` });
    const end = (value: number) => h("span", {}, String(value).replace("-", "−"));
    const range = (from: number, colours: string, to: number, after: string) =>
      h("span", { class: "range" }, end(from), bar(colours), end(to), after);
    const cold = negative ? [range(-scale.high, negative, -scale.low, "")] : [];
    const warm = range(scale.low, positive, scale.high, UNITS[units] ?? units);
    this.#legend.replaceChildren(h("span", { class: "title" }, name), ...cold, warm);
  }

  /** Move the crosshair to the voxel of the state, and say what is there. */
  cross(): void {
    const { state, subject } = this.context;
    const label = state.view.voxel === "" ? undefined : Number(state.view.voxel);
    const row = label === undefined ? undefined : subject.row(label);
    if (label !== undefined && row !== undefined) {
      this.#cursor = subject.mm(label);
      this.#slices.moveTo(this.#cursor);
      if (!this.#surfacePlace.hidden) this.#surfaces?.moveTo(subject.mm(label));
    } else if (label === undefined) this.#slices.moveTo((this.#cursor = centre(subject)));
    this.#describe(label, row);
  }

  #describe(label: number | undefined, row: number | undefined): void {
    const { subject } = this.context;
    const entry = (term: string, text: string) => [h("dt", {}, term), h("dd", { "data-readout": term }, text)];
    if (label === undefined) {
      this.#readout.replaceChildren(h("dd", { class: "hint" }, this.#surfacePlace.hidden ? HINT : SURFACE_HINT));
      return;
    }
    const mm = subject.mm(label).map((value) => value.toFixed(1).replace("-", "−"));
    const entries = [...entry("Position", `${mm.join(", ")} mm`), ...entry("Voxel", String(label))];
    if (row === undefined) {
      entries.push(...entry("Stored", "no: outside the brain masks"));
    } else {
      const regions = subject.regionsOf(row).map(({ name }) => name);
      entries.push(...entry("ROIs", regions.join(", ") || "none"));
      for (const name of subject.ceilings.filter((one) => one === subject.mainCeiling)) {
        entries.push(...entry("Noise ceiling", `${subject.ceilingOf(name)![row]!.toFixed(2)} percent`));
      }
      const value = this.#values?.[row];
      if (value !== undefined && !this.overlay.id.startsWith("ceiling/")) {
        entries.push(...entry("Overlay", Number.isNaN(value) ? "no value" : `${Number(value.toPrecision(4))} ${UNITS[this.overlay.units] ?? this.overlay.units}`));
      }
    }
    this.#readout.replaceChildren(...entries);
  }

  #placed(label: number | undefined): void {
    const { subject, state } = this.context;
    const row = label === undefined ? undefined : subject.row(label);
    this.#describe(label, row);
    window.clearTimeout(this.#settling);
    const now = performance.now();
    const alone = now - this.#moved > SETTLED;
    this.#moved = now;
    if (label === undefined || row === undefined) return;
    const choose = () => state.set({ voxel: String(label), of: "voxel" });
    if (alone) choose();
    else this.#settling = window.setTimeout(choose, SETTLED);
  }

  /** Arrow keys move the crosshair by a voxel; in the volume view they turn it. */
  #key(event: KeyboardEvent): void {
    const { state, subject } = this.context;
    const [step, turn] = [STEPS[event.key], TURNS[event.key]];
    if (!step) return;
    event.preventDefault();
    event.stopImmediatePropagation(); // NiiVue has other uses for these keys
    if (state.view.view === "volume" && turn) return this.#slices.turn(...turn);
    const size = (axis: number) => Math.hypot(...subject.affine.slice(0, 3).map((row) => row[axis]!));
    this.#cursor = this.#cursor.map((value, axis) => value + step[axis]! * size(axis)) as Point;
    this.#slices.moveTo(this.#cursor);
    this.#placed(subject.at(this.#cursor));
  }

  #goTo(event: Event): void {
    event.preventDefault();
    const numbers = (this.#voxel.value.replaceAll("−", "-").match(/-?\d+(\.\d+)?/g) ?? []).map(Number);
    const { subject, state } = this.context;
    const label = numbers.length === 3 ? subject.at(numbers) : numbers.length === 1 ? numbers[0] : undefined;
    if (label === undefined || subject.row(label) === undefined) {
      this.#job.complain(new Problem("No voxel is stored there. Give a voxel label, or x, y, z in mm."));
      return;
    }
    this.#job.say("");
    state.set({ voxel: String(label), of: "voxel" });
  }
}

const CANVAS_LABEL = "Slices of the brain. Click to choose a voxel; arrow keys, Page Up and Page Down move the crosshair.";
const SURFACE_LABEL = "Surface of the cortex. Drag or arrow keys turn it, a click chooses a voxel.";
const HINT = "Click in the brain to choose a voxel; arrow keys and Page Up, Page Down move it.";
const SURFACE_HINT = "Click on the surface to choose a voxel; drag or arrow keys turn it.";
const OF_VERTICES = "Values of the vertices, as the store has them.";
const OF_VOXELS = "Each vertex has the value of its voxel.";
type Point = [number, number, number];
/** Steps of the crosshair along left-right, back-front, down-up. */
const STEPS: { [key: string]: Point } = {
  ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowDown: [0, 0, -1], ArrowUp: [0, 0, 1], PageDown: [0, -1, 0], PageUp: [0, 1, 0],
};
/** Degrees by which a key turns a view in 3-D: azimuth, elevation. */
const TURNS: { [key: string]: [number, number] } = {
  ArrowLeft: [-15, 0], ArrowRight: [15, 0], ArrowDown: [0, -15], ArrowUp: [0, 15],
};
const UNITS: { [units: string]: string } = { percent: "%" };

function number(text: string, otherwise: number): number {
  const value = Number(text);
  return text === "" || Number.isNaN(value) ? otherwise : value;
}

function grouped(overlays: Overlay[]): HTMLElement[] {
  const groups = new Map<string, HTMLElement>();
  for (const { id, label, group } of overlays) {
    if (!group) groups.set(id, option(id, label));
    else {
      if (!groups.has(group)) groups.set(group, h("optgroup", { label: group }));
      groups.get(group)!.append(option(id, label));
    }
  }
  return [...groups.values()];
}
