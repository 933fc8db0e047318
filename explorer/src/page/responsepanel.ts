/** What a voxel or a region answers to: all images, the strongest and weakest, words, localizers. */

import { NAMES } from "../names";
import { Problem } from "../store/source";
import { hasVoxels, readVoxels, sizeOfVoxels } from "../voxel/averages";
import { readResponses, sizeOf } from "../voxel/responses";
import type { Subject } from "../voxel/subject";
import { type WordScore, scoreWords, wordsOf } from "../voxel/words";
import type { Context } from "./context";
import { Curve } from "./curve";
import { count, h, labelled, signed, size } from "./dom";
import { Job } from "./job";
import { agreement, strip } from "./pictures";

const SHOWN = 8;
const WORDS_SHOWN = 10;
const LARGE = 400e6; // bytes that are not read without asking
/** Whether to read much, and single trials where averages would do. */
type Wish = { confirmed?: boolean; trials?: boolean };

export class ResponsePanel {
  readonly element: HTMLElement;
  readonly #job = new Job();
  readonly #more = new Job();
  readonly #title = h("h2", {}, "Responses");
  readonly #region = h("input", { type: "search", list: "explorer-regions", placeholder: "FFA1, PPA, V1v …", autocomplete: "off" });
  readonly #names = h("datalist", { id: "explorer-regions" });
  readonly #which = h("div", { class: "which", role: "group", "aria-label": "Responses of" });
  readonly #asking = h("p");
  readonly #curve = new Curve();
  readonly #body = h("div", { hidden: true });
  readonly #pictures = h("div");
  readonly #words = h("details", {}, h("summary", {}, "Words of its pictures"));
  readonly #localizers = h("details", {}, h("summary", {}, "Localizer contrasts"));
  readonly #noise = h("p", { class: "hint" });
  #shown: string | undefined;
  onShown: () => void = () => {};

  constructor(readonly context: Context) {
    this.#body.append(this.#curve.element, this.#noise, this.#pictures, this.#words, this.#localizers, this.#more.status);
    this.element = h(
      "section", { class: "panel responses", "aria-label": "Responses" },
      this.#title, h("form", { class: "go", onsubmit: (event) => this.#submit(event) },
        labelled("Region", this.#region), this.#names, h("button", {}, "Show")),
      this.#which, this.#job.status, this.#asking, this.#body,
    );
    this.#curve.onPick = (picture) => context.state.set({ picture });
    this.#region.addEventListener("change", () => this.#choose());
    this.#words.addEventListener("toggle", () => void this.#showWords());
    this.#localizers.addEventListener("toggle", () => void this.#showLocalizers());
  }

  /** Show another subject. */
  load(): void {
    const regions = this.context.subject.regions;
    this.#names.replaceChildren(...regions.map(({ name, category }) => h("option", { value: name }, category)));
    this.#shown = undefined;
    this.#region.title = `${count(regions.length, "region")}: ${regions.map(({ name }) => name).join(", ")}`;
  }

  #submit(event: Event): void {
    event.preventDefault();
    this.#choose();
  }

  #choose(): void {
    const { subject, state } = this.context;
    const wanted = this.#region.value.trim();
    const region = subject.regions.find(({ name }) => name.toLowerCase() === wanted.toLowerCase());
    if (!wanted || (region?.name === state.view.region && state.view.of === "region")) return;
    if (!region) {
      const near = subject.regions.filter(({ name }) => name.toLowerCase().includes(wanted.toLowerCase()));
      const names = (near.length ? near : subject.regions).map(({ name }) => name).join(", ");
      return this.#job.complain(new Problem(`No region is named ${wanted}. ${near.length ? "Similar" : "Regions"}: ${names}.`));
    }
    const voxel = middle(subject, subject.rowsOf(region, false));
    state.set({ region: region.name, of: "region", voxel: voxel === undefined ? state.view.voxel : String(voxel) });
  }

  /** Read and show the responses that the state names, if they are not shown yet. */
  async refresh(wish: Wish = {}): Promise<void> {
    const { state, subject } = this.context;
    const { of, voxel, region: name } = state.view;
    this.#showWhich();
    if (document.activeElement !== this.#region) this.#region.value = name;
    const wanted = of === "voxel" ? `${subject.name} voxel ${voxel}` : of === "region" ? `${subject.name} region ${name}` : "";
    if (wanted === this.#shown) return;
    this.#shown = wanted;
    this.#asking.replaceChildren();
    this.#noise.replaceChildren();
    this.context.responses = undefined;
    if (!wanted) {
      this.#title.textContent = "Responses";
      this.#body.hidden = true;
      this.#job.say("Click a voxel in the brain, or name a region.");
      return this.onShown();
    }
    await this.#job.run("Reading responses …", (signal) => this.#read(signal, wish));
    if (this.context.responses === undefined) this.#body.hidden = true;
    if (this.#job.failed) this.#shown = undefined; // to be tried again
    this.onShown();
  }

  async #read(signal: AbortSignal, wish: Wish): Promise<void> {
    const { subject, state } = this.context;
    const region = state.view.of === "region" ? subject.regionNamed(state.view.region) : undefined;
    const rows = region ? subject.rowsOf(region, true) : Int32Array.of(subject.row(Number(state.view.voxel)) ?? -1);
    this.#title.textContent = region ? `${region.name} (${count(rows.length, "voxel")})` : `Voxel ${state.view.voxel}`;
    if (state.view.of === "region" && !region) throw new Problem(`${state.view.region} is not a region of ${subject.name}.`);
    if (rows.length === 0) throw new Problem(`No voxel of ${region?.name} is in the anatomical brain mask.`);
    if (rows[0]! < 0) throw new Problem(`Voxel ${state.view.voxel} of ${subject.name} is not stored.`);
    if (subject.sessions.length === 0) throw new Problem(`The store has no betas of ${subject.name}.`);
    let averaged = hasVoxels(subject) && !wish.trials;
    if (averaged && rows.length > 1) averaged = (await this.#sizeOfBetas(rows)) > this.context.little;
    const bytes = averaged ? await sizeOfVoxels(subject, rows) : await this.#sizeOfBetas(rows);
    if (bytes > LARGE && !wish.confirmed) return this.#ask(this.#asking, "This is a large region.", `Read ${size(bytes)}`, { ...wish, confirmed: true });
    const onProgress = (share: number) => this.#job.say(`Reading responses: ${Math.round(100 * share)} % of ${size(bytes)} …`);
    const responses = await (averaged ? readVoxels : readResponses)(subject, rows, { onProgress, signal });
    signal.throwIfAborted();
    this.context.responses = responses;
    if (responses.atMost) await this.#offerTrials(rows);
    this.#curve.show(responses);
    this.#curve.mark(state.view.picture);
    this.#body.hidden = false;
    this.#showPictures();
    await Promise.all([this.#showWords(), this.#showLocalizers()]);
  }

  async #sizeOfBetas(rows: Int32Array): Promise<number> {
    const { subject } = this.context;
    const array = await subject.group.array(subject.sessions[0]!, NAMES.betas);
    return sizeOf(rows, array.chunkRows, await subject.trials());
  }

  #ask(place: HTMLElement, why: string, what: string, wish: Wish): void {
    const read = () => {
      this.#shown = undefined;
      void this.refresh(wish);
    };
    place.replaceChildren(`${why} `, h("button", { type: "button", onclick: read }, what));
  }

  async #offerTrials(rows: Int32Array): Promise<void> {
    const why = "The band is at most this wide: the mean standard error of the voxels. What noise they do not share averages out.";
    this.#ask(this.#noise, why, `Read single trials (${size(await this.#sizeOfBetas(rows))})`, { confirmed: true, trials: true });
  }

  /** Mark the picture that is looked at. */
  mark(): void {
    this.#curve.mark(this.context.state.view.picture);
  }

  #showWhich(): void {
    const { state } = this.context;
    const { of, voxel, region } = state.view;
    const choice = (what: "voxel" | "region", text: string) =>
      h("button", { type: "button", "aria-pressed": String(of === what), onclick: () => state.set({ of: what }) }, text);
    this.#which.replaceChildren(
      ...(voxel ? [choice("voxel", `Voxel ${voxel}`)] : []),
      ...(region ? [choice("region", region)] : []),
    );
  }

  #showPictures(): void {
    const { context } = this;
    const { order, images, mean } = context.responses!;
    const told = (codes: Int32Array) => [...codes].map((code): [string, string] => [images[code]!, signed(mean[code]!)]);
    this.#pictures.replaceChildren(
      h("h3", {}, "Strongest"), strip(context, "Strongest", told(order.slice(0, SHOWN))),
      h("h3", {}, "Weakest"), strip(context, "Weakest", told(order.slice(-SHOWN).reverse())),
      agreement(context),
    );
  }

  async #showWords(): Promise<void> {
    const { context } = this;
    if (!this.#words.open || !context.responses) return;
    const { images, mean } = context.responses;
    const summary = this.#words.firstElementChild!;
    const { stimuli } = context;
    await this.#more.run("Reading captions and nouns …", async () => {
      const [captions, masks] = await Promise.all([stimuli.captions(), stimuli.masks()]);
      const byImage = new Map(images.map((image, code) => [image, mean[code]!]));
      const nouns = new Map([...masks].map(([image, list]) => [image, new Set(list.map(({ noun }) => noun))]));
      const words = new Map([...captions].map(([image, list]) => [image, new Set(list.flatMap(({ text }) => wordsOf(text)))]));
      const absent = (what: string, command: string) =>
        h("p", { class: "hint missing" }, `This store has no ${what}: laion-zarr ${command}, then convert.`);
      this.#words.replaceChildren(
        summary,
        stimuli.hasMasks ? table("Nouns of segmentations", scoreWords(byImage, nouns)) : absent("segmentations", "download-segmentations"),
        stimuli.hasCaptions ? table("Words of captions", scoreWords(byImage, words)) : absent("captions", "download-captions"),
        h("p", { class: "hint" }, "Difference: mean response to its pictures less that to all others (SD); t: Welch's."),
      );
    });
  }

  async #showLocalizers(): Promise<void> {
    const { context } = this;
    if (!this.#localizers.open || !context.responses) return;
    const summary = this.#localizers.firstElementChild!;
    await this.#more.run("Reading localizer maps …", async () => {
      const { subject, state } = context;
      const region = state.view.of === "region" ? subject.regionNamed(state.view.region) : undefined;
      const rows = region ? subject.rowsOf(region, true) : Int32Array.of(subject.row(Number(state.view.voxel))!);
      const maps = await subject.localizers();
      const found = await Promise.all(maps.map(async (map) => ({ map, ...placeIn(subject, await subject.localizer(map.row), rows) })));
      const lines = found.sort((a, b) => b.z - a.z).map(({ map, z, share }) =>
        h("tr", {}, h("th", { scope: "row" }, `${map.task}: ${map.contrast}`), h("td", {}, signed(z)),
          h("td", {}, Number.isNaN(share) ? "" : `${(100 * share).toFixed(1)} %`)));
      const head = h("tr", {}, ...["Contrast", region ? "Mean z" : "z", "Above … of brain voxels"].map((text) => h("th", { scope: "col" }, text)));
      this.#localizers.replaceChildren(
        summary,
        maps.length ? h("table", {}, h("thead", {}, head), h("tbody", {}, ...lines))
          : h("p", { class: "hint missing" }, `The store has no localizer maps of ${subject.name}: laion-zarr download --include-localizers, then convert.`),
      );
    });
  }
}

/** Voxel of a region that is nearest to the middle of it. */
function middle(subject: Subject, rows: Int32Array): number | undefined {
  const places = Array.from(rows, (row) => subject.mm(subject.voxel[row]!));
  const mean = [0, 1, 2].map((axis) => places.reduce((sum, mm) => sum + mm[axis]!, 0) / places.length);
  let best: number | undefined;
  let least = Infinity;
  places.forEach((mm, n) => {
    const distance = Math.hypot(...mm.map((value, axis) => value - mean[axis]!));
    if (distance < least) [least, best] = [distance, subject.voxel[rows[n]!]];
  });
  return best;
}

/** Mean of a map over rows, and the share of brain voxels that it is above. */
function placeIn(subject: Subject, values: Float32Array, rows: Int32Array): { z: number; share: number } {
  const own = [...rows].map((row) => values[row]!).filter(Number.isFinite);
  const z = own.reduce((sum, value) => sum + value, 0) / own.length;
  const brain = values.filter((value, row) => subject.inBrain[row] && Number.isFinite(value));
  const below = brain.reduce((sum, value) => sum + Number(value < z), 0);
  return { z, share: Number.isNaN(z) ? NaN : below / brain.length };
}

function table(title: string, scores: WordScore[]): HTMLElement {
  if (scores.length === 0) return h("p", { class: "hint" }, `${title}: too few pictures to compare.`);
  const head = h("tr", {}, ...["Word", "Pictures", "Difference", "t"].map((text) => h("th", { scope: "col" }, text)));
  const rows = scores.filter(({ t }) => t > 0).slice(0, WORDS_SHOWN).map(({ word, n, difference, t }) =>
    h("tr", {}, h("th", { scope: "row" }, word), h("td", {}, String(n)), h("td", {}, signed(difference)), h("td", {}, signed(t, 1))));
  return h("table", {}, h("caption", {}, title), h("thead", {}, head), h("tbody", {}, ...rows));
}
