/** Words whose pictures have other responses than all other pictures. */

export type WordScore = { word: string; n: number; difference: number; t: number };

const FEWEST = 3;
// Words that say nothing of what is in a picture.
const STOP = new Set(
  ("a an and are as at be by for from has have her his in into is it its of on or other some than that the " +
    "their them there these they this to up was which while with you your two one it's image photo picture " +
    "shows showing front can being behind background").split(" "),
);

/** Words of a caption, each once. */
export function wordsOf(caption: string): string[] {
  const found = caption.toLowerCase().match(/[\p{L}][\p{L}'-]*/gu) ?? [];
  return [...new Set(found)].filter((word) => word.length > 1 && !STOP.has(word));
}

/**
 * Score each word by Welch's t of its pictures' responses against those of all other pictures.
 *
 * @param mean response to each image
 * @param wordsByImage words of each image, of those that were looked at; others are left out
 */
export function scoreWords(
  mean: ReadonlyMap<string, number>,
  wordsByImage: ReadonlyMap<string, ReadonlySet<string>>,
): WordScore[] {
  const all = new Moments();
  const byWord = new Map<string, Moments>();
  for (const [image, words] of wordsByImage) {
    const value = mean.get(image);
    if (value === undefined || Number.isNaN(value)) continue;
    all.add(value);
    for (const word of words) {
      let moments = byWord.get(word);
      if (!moments) byWord.set(word, (moments = new Moments()));
      moments.add(value);
    }
  }
  const scores: WordScore[] = [];
  for (const [word, own] of byWord) {
    const others = all.without(own);
    if (own.n < FEWEST || others.n < FEWEST) continue;
    const difference = own.mean - others.mean;
    const t = difference / Math.sqrt(own.variance / own.n + others.variance / others.n);
    if (Number.isFinite(t)) scores.push({ word, n: own.n, difference, t });
  }
  return scores.sort((a, b) => b.t - a.t);
}

class Moments {
  n = 0;
  sum = 0;
  squares = 0;

  add(value: number): void {
    this.n += 1;
    this.sum += value;
    this.squares += value * value;
  }

  without(other: Moments): Moments {
    const rest = new Moments();
    rest.n = this.n - other.n;
    rest.sum = this.sum - other.sum;
    rest.squares = this.squares - other.squares;
    return rest;
  }

  get mean(): number {
    return this.sum / this.n;
  }

  get variance(): number {
    return Math.max(0, this.squares - this.sum * this.mean) / (this.n - 1);
  }
}
