/** Responses to all images, sorted, with their standard error; a picture is chosen by click or keys. */

import type { Responses } from "../voxel/responses";
import { h, signed, svg } from "./dom";

const WIDTH = 420;
const HEIGHT = 170;
const LEFT = 40;
const BOTTOM = 24;
const TOP = 8;
const MOST_POINTS = 600;

export class Curve {
  readonly element = h("div", { class: "curve" });
  readonly #plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "slider", tabindex: 0 });
  readonly #mark = svg("line", { class: "mark", y1: TOP, y2: HEIGHT - BOTTOM });
  readonly #text = h("p", { class: "hint" });
  #responses: Responses | undefined;
  #at = 0;
  onPick: (image: string) => void = () => {};

  constructor() {
    this.#plot.setAttribute("aria-label", "Images by response; arrow keys move, Enter shows the picture");
    this.element.append(this.#plot as unknown as Node, this.#text);
    this.#plot.addEventListener("mousemove", (event) => this.#move(this.#rank(event as MouseEvent)));
    this.#plot.addEventListener("mouseleave", () => this.#move(this.#at));
    this.#plot.addEventListener("click", (event) => this.#choose(this.#rank(event as MouseEvent)));
    this.#plot.addEventListener("keydown", (event) => this.#key(event as KeyboardEvent));
  }

  show(responses: Responses): void {
    this.#responses = responses;
    const { order, mean, error } = responses;
    const n = order.length;
    if (n === 0) return this.#plot.replaceChildren();
    const low = Math.min(0, ...sampled(n).map((rank) => mean[order[rank]!]! - known(error[order[rank]!]!)));
    const high = Math.max(0, ...sampled(n).map((rank) => mean[order[rank]!]! + known(error[order[rank]!]!)));
    const y = (value: number) => TOP + ((high - value) / (high - low || 1)) * (HEIGHT - BOTTOM - TOP);
    const points = (value: (code: number) => number) =>
      sampled(n).map((rank) => `${this.#x(rank).toFixed(1)},${y(value(order[rank]!)).toFixed(1)}`);
    const upper = points((code) => mean[code]! + known(error[code]!));
    const lower = points((code) => mean[code]! - known(error[code]!)).reverse();
    const label = (text: string, x: number, at: number, anchor: string) => {
      const element = svg("text", { x, y: at, "text-anchor": anchor });
      element.textContent = text;
      return element;
    };
    this.#plot.replaceChildren(
      svg("polygon", { class: "band", points: [...upper, ...lower].join(" ") }),
      svg("line", { class: "zero", x1: LEFT, x2: WIDTH, y1: y(0), y2: y(0) }),
      svg("polyline", { class: "line", points: points((code) => mean[code]!).join(" ") }),
      ...[low, 0, high].map((value) => label(value === 0 ? "0" : signed(value, 1), LEFT - 4, y(value) + 4, "end")),
      label(`${n.toLocaleString("en")} images by response (SD); band: ± standard error${responses.atMost ? " at most" : ""}`, LEFT, HEIGHT - 6, "start"),
      this.#mark,
    );
    this.#plot.setAttribute("aria-valuemin", "1");
    this.#plot.setAttribute("aria-valuemax", String(n));
    this.#at = 0;
    this.#move(0);
  }

  /** Mark the image that is looked at, if it has a response. */
  mark(image: string): void {
    const rank = this.#responses ? this.#responses.order.findIndex((code) => this.#responses!.images[code] === image) : -1;
    if (rank >= 0) this.#at = rank;
    this.#move(this.#at);
  }

  #x(rank: number): number {
    const n = this.#responses?.order.length ?? 1;
    return LEFT + (rank / Math.max(1, n - 1)) * (WIDTH - LEFT - 4);
  }

  #rank(event: MouseEvent): number {
    const box = this.#plot.getBoundingClientRect();
    const share = (((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - 4);
    const n = this.#responses?.order.length ?? 1;
    return Math.min(n - 1, Math.max(0, Math.round(share * (n - 1))));
  }

  #move(rank: number): void {
    const responses = this.#responses;
    const code = responses?.order[rank];
    if (!responses || code === undefined) return;
    this.#mark.setAttribute("x1", String(this.#x(rank)));
    this.#mark.setAttribute("x2", String(this.#x(rank)));
    const text =
      `${rank + 1}. ${responses.images[code]}: ${signed(responses.mean[code]!)} ± ${responses.atMost ? "at most " : ""}` +
      `${known(responses.error[code]!).toFixed(2)} SD, ${responses.counts[code]} trials`;
    this.#text.textContent = text;
    this.#plot.setAttribute("aria-valuenow", String(rank + 1));
    this.#plot.setAttribute("aria-valuetext", text);
  }

  #key(event: KeyboardEvent): void {
    const n = this.#responses?.order.length ?? 0;
    const steps: { [key: string]: number } = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 25, PageDown: -25, Home: -n, End: n };
    if (event.key === "Enter") this.#choose(this.#at);
    else if (steps[event.key] === undefined) return;
    else this.#move((this.#at = Math.min(n - 1, Math.max(0, this.#at + steps[event.key]!))));
    event.preventDefault();
  }

  #choose(rank: number): void {
    const code = this.#responses?.order[rank];
    if (code === undefined) return;
    this.#at = rank;
    this.onPick(this.#responses!.images[code]!);
  }
}

function sampled(n: number): number[] {
  const points = Math.min(n, MOST_POINTS);
  return Array.from({ length: points }, (_, at) => Math.round((at * (n - 1)) / Math.max(1, points - 1)));
}

/** Errors are unknown where no image was repeated. */
function known(error: number): number {
  return Number.isFinite(error) ? error : 0;
}
