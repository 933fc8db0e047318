/** One picture: what is in it, who saw it, what answers to it, and the pictures nearest to it. */

import { Problem } from "../store/source";
import { type Near, type Split, oodType } from "../picture/stimuli";
import { type Trials, readTrials } from "../voxel/subject";
import type { Context } from "./context";
import { count, h, labelled, option, signed, size } from "./dom";
import { Job } from "./job";
import { agreement, strip } from "./pictures";
import { Search } from "./search";

const NEAREST = 8;
const MASK_COLOURS: readonly [number, number, number][] = [
  [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167],
];

export class PicturePanel {
  readonly element: HTMLElement;
  readonly #job = new Job();
  readonly #nearJob = new Job();
  readonly #title = h("h2", {}, "Picture");
  readonly #body = h("div", { class: "picture-body" });
  readonly #response = h("p", { class: "response" });
  readonly #near = h("div");
  readonly #search: Search;
  readonly #others = new Map<string, Promise<Trials>>();

  constructor(readonly context: Context) {
    this.#search = new Search(context);
    this.element = h(
      "section", { class: "panel picture", "aria-label": "Picture" },
      this.#title, this.#search.element, this.#job.status, this.#body,
    );
  }

  /** Show the picture of the state. */
  async refresh(): Promise<void> {
    const { state } = this.context;
    const name = state.view.picture;
    this.#title.textContent = name || "Picture";
    this.#body.replaceChildren();
    if (!name) return this.#job.say("Click on a picture, or search for one.");
    await this.#job.run("Reading the picture …", async (signal) => {
      const known = await this.context.stimuli.names();
      const seen = (await this.context.subject.trials()).images.includes(name);
      if (!known.includes(name) && !seen) throw new Problem(`${name} is no image of this store.`);
      const [picture, captions, splits] = await Promise.all([this.#picture(name), this.#captions(name), this.#splits(name)]);
      const facts = await this.#facts(name);
      if (signal.aborted) return;
      const show = h("button", { type: "button", onclick: () => state.set({ overlay: "picture", low: "", high: "" }) }, "Show its response on the brain");
      this.showResponse();
      this.#body.replaceChildren(picture, facts, this.#response, show, captions, this.#nearest(name), splits);
    });
  }

  /** Say how the voxel or region in view answers to the picture. */
  showResponse(): void {
    const { responses, state } = this.context;
    const { picture, of, voxel, region } = state.view;
    const code = responses ? responses.images.indexOf(picture) : -1;
    if (!responses) return void (this.#response.textContent = "");
    const whose = of === "region" ? region : `Voxel ${voxel}`;
    const rank = responses.order.indexOf(code) + 1;
    this.#response.textContent = code < 0 || rank === 0
      ? `${whose}: no response to this picture, which ${this.context.subject.name} did not see.`
      : `${whose} answers with ${signed(responses.mean[code]!)} SD: place ${rank} of ${responses.order.length.toLocaleString("en")}.`;
  }

  async #picture(name: string): Promise<HTMLElement> {
    const { context } = this;
    const [url, masks] = await Promise.all([context.picture(name), context.stimuli.masks()]);
    if (!url) return h("div", {}, agreement(context));
    const located = (masks.get(name) ?? []).filter(({ row }) => row >= 0);
    const canvas = h("canvas", { class: "masks" });
    const frame = h("div", { class: "frame" }, h("img", { src: url, alt: name }), canvas);
    const boxes = located.map(({ noun, row }, n) => {
      const box = h("input", { type: "checkbox", onchange: () => void draw(), value: row });
      const [r, g, b] = MASK_COLOURS[n % MASK_COLOURS.length]!;
      return { box, label: h("label", { class: "mask" }, box, h("span", { class: "swatch", style: `background: rgb(${r} ${g} ${b})` }), noun) };
    });
    const draw = async () => {
      const layers = boxes.map(({ box }, n) => ({ on: box.checked, n, row: Number(box.value) })).filter(({ on }) => on);
      try {
        await this.#drawMasks(canvas, layers);
      } catch (error) {
        this.#job.complain(error);
      }
    };
    const none = context.stimuli.hasMasks ? "No masks of objects." : "This store has no masks of objects: laion-zarr download-segmentations, then convert.";
    const list = boxes.length ? boxes.map(({ label }) => label) : [h("p", { class: "hint" }, none)];
    return h("div", {}, frame, h("div", { class: "masks-list", role: "group", "aria-label": "Masks of objects" }, ...list), agreement(context));
  }

  async #drawMasks(canvas: HTMLCanvasElement, layers: { n: number; row: number }[]): Promise<void> {
    const masks = await Promise.all(layers.map(({ row }) => this.context.stimuli.mask(row)));
    const paint = canvas.getContext("2d")!;
    paint.clearRect(0, 0, canvas.width, canvas.height);
    if (masks.length === 0) return;
    canvas.width = masks[0]!.width;
    canvas.height = masks[0]!.height;
    const pixels = paint.createImageData(canvas.width, canvas.height);
    masks.forEach(({ data }, at) => {
      const colour = MASK_COLOURS[layers[at]!.n % MASK_COLOURS.length]!;
      data.forEach((inside, pixel) => {
        if (inside) pixels.data.set([...colour, 140], 4 * pixel);
      });
    });
    paint.putImageData(pixels, 0, 0);
  }

  async #captions(name: string): Promise<HTMLElement> {
    const { stimuli } = this.context;
    const list = (await stimuli.captions()).get(name) ?? [];
    const none = stimuli.hasCaptions ? "No captions." : "This store has no captions: laion-zarr download-captions, then convert.";
    const items = list.map(({ source, text }) => h("li", {}, h("span", { class: "source" }, source), " ", text));
    return h("div", { class: "captions" }, h("h3", {}, "Captions"), items.length ? h("ul", {}, ...items) : h("p", { class: "hint" }, none));
  }

  async #facts(name: string): Promise<HTMLElement> {
    const { store } = this.context;
    const seen = await Promise.all(store.subjects.map(async (subject) => {
      const { images, counts } = await this.#trials(subject);
      return { subject, n: counts[images.indexOf(name)] ?? 0 };
    }));
    const who = seen.filter(({ n }) => n > 0).map(({ subject, n }) => `${subject} ${count(n, "time")}`);
    const entry = (term: string, text: string) => [h("dt", {}, term), h("dd", { "data-fact": term }, text)];
    return h("dl", { class: "readout" },
      ...entry("Seen by", who.join(", ") || "none of this store's subjects"),
      ...entry("Out of distribution", oodType(name) ?? "no"));
  }

  #trials(name: string): Promise<Trials> {
    if (name === this.context.subject.name) return this.context.subject.trials();
    let found = this.#others.get(name);
    if (!found) {
      found = this.context.store.group(name).then(readTrials);
      found.catch(() => this.#others.delete(name));
      this.#others.set(name, found);
    }
    return found;
  }

  async #splits(name: string): Promise<HTMLElement> {
    const { stimuli } = this.context;
    const summary = h("summary", {}, "Train and test splits");
    if (!stimuli.hasSplits) return h("details", {}, summary, h("p", { class: "hint missing" }, "The store has no splits: laion-zarr splits add."));
    const splits = await stimuli.splitsOf(name);
    const head = h("tr", {}, ...["Pool", "Train", "Test"].map((text) => h("th", { scope: "col" }, text)));
    const lines = [...new Set(splits.map(({ pool }) => pool))].map((pool) => {
      const told = (side: Split["side"]) =>
        splits.filter((one) => one.pool === pool && one.side === side).map(nameOf).join(", ");
      return h("tr", {}, h("th", { scope: "row" }, pool), h("td", {}, told("train")), h("td", {}, told("test")));
    });
    const found = h("table", { class: "sides" }, h("thead", {}, head), h("tbody", {}, ...lines));
    return h("details", {}, summary, lines.length ? found : h("p", { class: "hint" }, "In no split."));
  }

  #nearest(name: string): HTMLElement {
    const { stimuli, state } = this.context;
    this.#near.replaceChildren();
    this.#nearJob.cancel();
    if (stimuli.models.length === 0) {
      return h("p", { class: "hint missing" }, "This store has no embeddings: laion-zarr download-embeddings, then convert.");
    }
    const model = h("select", {}, ...stimuli.models.map((one) => option(one, one)));
    if (stimuli.models.includes(state.view.model)) model.value = state.view.model;
    const find = h("button", { type: "button", onclick: () => void this.#find(name, model.value) }, "Find");
    const cost = async () => {
      find.textContent = `Find (reads ${size(await stimuli.modelBytes(model.value))})`;
    };
    model.onchange = () => {
      state.set({ model: model.value }, { replace: true });
      void cost();
    };
    void cost();
    return h("div", { class: "nearest" }, h("h3", {}, "Nearest pictures"), h("div", { class: "go" }, labelled("by", model), find), this.#nearJob.status, this.#near);
  }

  async #find(name: string, model: string): Promise<void> {
    await this.#nearJob.run("Reading embeddings …", async (signal) => {
      const near = await this.context.stimuli.nearest(name, model, (share) => {
        if (!signal.aborted) this.#nearJob.say(`Reading embeddings: ${Math.round(100 * share)} % …`);
      });
      if (signal.aborted) return;
      if (near.length === 0) throw new Problem(`${model} has no embedding of this picture.`);
      const told = near.slice(0, NEAREST).map(({ image, similarity }: Near): [string, string] => [image, similarity.toFixed(3)]);
      this.#near.replaceChildren(strip(this.context, "Nearest pictures", told), h("p", { class: "hint" }, "Cosine similarity of embeddings."));
    });
  }
}

/** A split by its name, and its variant if there are several. */
function nameOf({ name, variant }: Split): string {
  return variant ? `${name} (${variant})` : name;
}
