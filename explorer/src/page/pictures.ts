/** Pictures in rows, as buttons that choose one. */

import { NAMES } from "../names";
import type { Context } from "./context";
import { h } from "./dom";

/** Words beside every picture. */
export const AGREEMENT = "Pictures are under the LAION-fMRI data use agreement: do not pass them on.";

/** A picture that can be chosen; its name where the store has no pictures. */
export function thumbnail(context: Context, name: string, note: string): HTMLElement {
  const button = h("button", {
    type: "button", class: "thumbnail", title: name, "data-picture": name,
    onclick: () => context.state.set({ picture: name }),
  });
  button.append(h("span", { class: "note" }, note));
  const named = () => button.prepend(h("span", { class: "name" }, name));
  context.picture(name).then(
    (url) => (url ? button.prepend(h("img", { src: url, alt: name, loading: "lazy" })) : named()),
    (error: unknown) => {
      named();
      button.append(h("span", { class: "problem" }, error instanceof Error ? error.message : String(error)));
    },
  );
  return button;
}

export function strip(context: Context, label: string, pictures: [string, string][]): HTMLElement {
  const thumbnails = pictures.map(([name, note]) => thumbnail(context, name, note));
  return h("div", { class: "strip", role: "group", "aria-label": label }, ...thumbnails);
}

/** Why there are no pictures, or what holds for them. */
export function agreement(context: Context): HTMLElement {
  if (context.stimuli.hasPictures) return h("p", { class: "hint" }, AGREEMENT);
  return h("p", { class: "hint missing" }, `This store holds no pictures (part ${NAMES.parts.images}): they need the data use ` +
    "agreement. With it: laion-zarr request-access, download-stimuli, then convert.");
}
