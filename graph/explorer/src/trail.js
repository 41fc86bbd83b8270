// A subscription's answers as one readable whole: the latest as the server sent it and, under
// `earlier`, those before it, newest first. GraphiQL by itself shows the latest alone, which of a run
// that has ended is nothing but its end.
const KEPT = 50;
// The editor lays its text out anew each time, so a fast feed is shown in steps.
const SHOWN_EVERY_MS = 100;

export class Trail {
  #answers = [];
  #timer = null;
  #show;

  constructor(show) {
    this.#show = show;
  }

  add(answer) {
    this.#answers = [answer, ...this.#answers.slice(0, KEPT)];
    this.#timer ??= setTimeout(() => this.#flush(), SHOWN_EVERY_MS);
  }

  end() {
    if (this.#timer !== null) this.#flush();
  }

  #flush() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const [latest, ...earlier] = this.#answers;
    this.#show({ ...latest, ...(earlier.length && { earlier: earlier.map(({ data, errors }) => errors ?? data) }) });
  }
}
