/** Draws the agent's voice as bars, and a soft level (0 to 1) for whatever the style sheet makes of it. */

const BARS = 33;
const QUIET_PAUSE_MS = 160;
const AUDIBLE = 0.04;

/** How loud each of `count` bands of speech is, 0 to 1, from an analyser's byte spectrum. */
export function bands(spectrum: Uint8Array, count: number, binHz: number): number[] {
  const low = Math.log(90);
  const high = Math.log(5_000);
  return Array.from({ length: count }, (_, index) => {
    const from = Math.floor(Math.exp(low + ((high - low) * index) / count) / binHz);
    const to = Math.max(from + 1, Math.ceil(Math.exp(low + ((high - low) * (index + 1)) / count) / binHz));
    let peak = 0;
    for (let bin = from; bin < to && bin < spectrum.length; bin += 1) peak = Math.max(peak, spectrum[bin] ?? 0);
    return Math.max(0, peak / 255 - 0.18) / 0.82;
  });
}

/** The lowest band in the middle, rising outwards on both sides: a voice then moves the picture from its centre. */
export function mirrored(values: readonly number[]): number[] {
  return [...values.slice(1).reverse(), ...values];
}

const METER_MS = 90;

/** Shows on `target` that the microphone hears something (`--mic-level`, 0 to 1). */
export class Meter {
  private source: MediaStreamAudioSourceNode | null = null;
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly target: HTMLElement,
    private readonly onLevel: (level: number) => void = () => {},
  ) {}

  listen(context: AudioContext, track: MediaStreamTrack): void {
    this.close();
    const analyser = context.createAnalyser();
    analyser.fftSize = 512;
    const wave = new Float32Array(analyser.fftSize);
    this.source = context.createMediaStreamSource(new MediaStream([track]));
    this.source.connect(analyser);
    this.timer = setInterval(() => {
      analyser.getFloatTimeDomainData(wave);
      const loudness = Math.sqrt(wave.reduce((sum, value) => sum + value * value, 0) / wave.length);
      const level = Math.min(1, loudness * 9);
      this.target.style.setProperty("--mic-level", level.toFixed(2));
      this.onLevel(level);
    }, METER_MS);
  }

  close(): void {
    clearInterval(this.timer);
    this.source?.disconnect();
    this.source = null;
    this.target.style.setProperty("--mic-level", "0");
  }
}

export class Visualiser {
  private context: AudioContext | null = null;
  private analyser: AnalyserNode | null = null;
  private source: MediaStreamAudioSourceNode | null = null;
  private shown: number[] = new Array<number>(BARS).fill(0);
  private spectrum = new Uint8Array(0);
  private running = false;
  private lastLevel = 0;
  private flat = false;

  constructor(
    private readonly face: HTMLElement,
    private readonly canvas: HTMLCanvasElement,
  ) {}

  get level(): number {
    return this.lastLevel;
  }

  /** Best called from a click: browsers let a sound context run only then. */
  unlock(): AudioContext {
    this.context ??= new AudioContext();
    if (this.context.state === "suspended") void this.context.resume().catch(() => {});
    return this.context;
  }

  listen(track: MediaStreamTrack | null): void {
    this.source?.disconnect();
    this.source = null;
    if (!track) return;
    const context = this.unlock();
    this.analyser ??= this.makeAnalyser(context);
    this.source = context.createMediaStreamSource(new MediaStream([track]));
    this.source.connect(this.analyser);
    if (!this.running) {
      this.running = true;
      this.frame();
    }
  }

  async close(): Promise<void> {
    this.running = false;
    this.listen(null);
    this.analyser = null;
    const context = this.context;
    this.context = null;
    this.show(new Array<number>(BARS).fill(0));
    await context?.close();
  }

  private makeAnalyser(context: AudioContext): AnalyserNode {
    const analyser = context.createAnalyser();
    analyser.fftSize = 1024;
    analyser.smoothingTimeConstant = 0.55;
    this.spectrum = new Uint8Array(analyser.frequencyBinCount);
    return analyser;
  }

  private readonly frame = (): void => {
    if (!this.running || !this.analyser || !this.context) return;
    this.analyser.getByteFrequencyData(this.spectrum as Uint8Array<ArrayBuffer>);
    const half = bands(this.spectrum, (BARS + 1) / 2, this.context.sampleRate / this.analyser.fftSize);
    const wanted = this.source ? mirrored(half) : new Array<number>(BARS).fill(0);
    const next = this.shown.map((value, index) => {
      const target = wanted[index] ?? 0;
      return value + (target - value) * (target > value ? 0.55 : 0.16);
    });
    this.show(next);
    // A silent agent needs no 60 pictures a second.
    if (this.lastLevel < AUDIBLE / 4) setTimeout(this.frame, QUIET_PAUSE_MS);
    else requestAnimationFrame(this.frame);
  };

  private show(values: number[]): void {
    this.shown = values;
    const middle = values.slice(values.length >> 2, values.length - (values.length >> 2));
    this.lastLevel = Math.min(1, middle.reduce((sum, value) => sum + value, 0) / middle.length);
    this.face.style.setProperty("--level", this.lastLevel.toFixed(3));
    this.face.toggleAttribute("data-sounding", this.lastLevel > AUDIBLE);
    const isFlat = values.every((value) => value < 0.002);
    if (!isFlat || !this.flat) this.draw(values);
    this.flat = isFlat;
  }

  private draw(values: readonly number[]): void {
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.round(this.canvas.clientWidth * ratio);
    const height = Math.round(this.canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    const pen = this.canvas.getContext("2d");
    if (!pen) return;
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = getComputedStyle(this.canvas).color;
    const step = width / values.length;
    const thick = Math.max(2 * ratio, step * 0.46);
    values.forEach((value, index) => {
      const away = Math.abs(index - (values.length - 1) / 2) / (values.length / 2);
      const tall = Math.max(thick, value * height * (1 - 0.55 * away * away));
      pen.globalAlpha = 0.35 + 0.65 * Math.min(1, value * 1.6);
      pen.beginPath();
      pen.roundRect(index * step + (step - thick) / 2, (height - tall) / 2, thick, tall, thick / 2);
      pen.fill();
    });
  }
}
